# One CloudFormation stack out of one of this project's templates. The templates are the one source of truth: this adds
# nothing to them, so that an account set up by either tool is the same account.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

locals {
  # What is not given is not passed, so that the template's own default holds.
  parameters = { for name, value in var.parameters : name => value if value != null }
  missing    = setsubtract(var.required, keys(local.parameters))
  broken     = [for rule in var.rules : rule.message if !rule.holds]
}

resource "aws_cloudformation_stack" "this" {
  name          = var.name
  template_body = file(var.template)
  parameters    = local.parameters
  capabilities  = var.capabilities

  lifecycle {
    precondition {
      condition     = length(local.missing) == 0
      error_message = "The stack ${var.name} needs ${join(", ", local.missing)} (deploy/cloudformation says what for)."
    }
    precondition {
      condition     = length(local.broken) == 0
      error_message = "The stack ${var.name} can't be made so: ${join("; ", local.broken)}."
    }
  }

  # A database takes its time.
  timeouts {
    create = "90m"
    update = "90m"
    delete = "90m"
  }
}
