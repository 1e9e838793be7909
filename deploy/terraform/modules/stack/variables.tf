variable "name" {
  type        = string
  description = "Name of the stack."
}

variable "template" {
  type        = string
  description = "Path of the template."
}

variable "parameters" {
  type        = map(string)
  description = "Parameters by their names in the template; null leaves one to the template's default."
}

variable "required" {
  type        = set(string)
  description = "Parameters that the template has no default for."
}

variable "rules" {
  type        = list(object({ holds = bool, message = string }))
  description = "What the template demands of several parameters together."
}

variable "capabilities" {
  type        = set(string)
  description = "What the template has to be allowed beside making resources, as in CAPABILITY_NAMED_IAM."
}
