# Written by deploy/terraform/generate.py: change the templates and run it again.

variable "stacks" {
  type        = set(string)
  description = "Which stacks are made: some of ecr, network, store, hub, shared, stackset."
  default     = ["ecr", "network", "store", "hub"]

  validation {
    condition     = length(setsubtract(var.stacks, ["ecr", "network", "store", "hub", "shared", "stackset"])) == 0
    error_message = "There are the stacks ecr, network, store, hub, shared, stackset."
  }
}

variable "prefix" {
  type        = string
  description = "First part of every name. All core stacks have to have the same one."
  default     = null

  validation {
    condition     = var.prefix == null ? true : can(regex("^(?:[a-z][a-z0-9-]{1,15})$", var.prefix))
    error_message = "prefix: 2 to 16 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "organization_id" {
  type        = string
  description = "The AWS organisation whose accounts may pull, as in o-a1b2c3d4e5 (aws organizations describe-organization)."

  validation {
    condition     = var.organization_id == null ? true : can(regex("^(?:o-[a-z0-9]{10,32})$", var.organization_id))
    error_message = "organization_id: the organisation's id, as in o-a1b2c3d4e5: aws organizations describe-organization."
  }
}

variable "untagged_days" {
  type        = number
  description = "Days after which an image without any tag is deleted. Tagged images are kept for ever, since an LA may still run one: tags can't be moved, so that only deleting a tag by hand makes an image untagged."
  default     = null

  validation {
    condition     = var.untagged_days == null ? true : var.untagged_days >= 1 && var.untagged_days <= 365
    error_message = "untagged_days: MinValue 1, MaxValue 365."
  }
}

variable "vpc_cidr" {
  type        = string
  description = "Addresses of the network. They may overlap with an LA's, as PrivateLink doesn't route between the two."
  default     = null

  validation {
    condition     = var.vpc_cidr == null ? true : can(regex("^(?:(\\d{1,3}\\.){3}\\d{1,3}/(1[6-9]|2[0-4]))$", var.vpc_cidr))
    error_message = "vpc_cidr: a network of a.b.c.d/16 to /24."
  }
}

variable "hub_subnet_cidrs" {
  type        = list(string)
  description = "Two parts of VpcCidr for the hub, one in each of two availability zones. 16 addresses each would do."
  default     = null
}

variable "allowed_principals" {
  type        = list(string)
  description = "Accounts whose agents may connect over PrivateLink, as arn:aws:iam::ACCOUNT:root separated by commas. PrivateLink knows no organisation, so each LA is named here before its own stacks are loaded, and taken out when it leaves."
  default     = null

  validation {
    condition     = var.allowed_principals == null ? true : alltrue([for item in var.allowed_principals : can(regex("^(?:|arn:aws[a-z-]*:iam::\\d{12}:(root|(role|user)/.+))$", item))])
    error_message = "allowed_principals: nothing, or ARNs separated by commas, as in arn:aws:iam::222222222222:root."
  }
}

variable "operator_cidr" {
  type        = string
  description = "Where operators' hubctl connects from, as in 10.20.0.0/16: the VPN or the network that you route to this one. Empty: nobody but agents reaches the hub."
  default     = null

  validation {
    condition     = var.operator_cidr == null ? true : can(regex("^(?:|(\\d{1,3}\\.){3}\\d{1,3}/\\d{1,2})$", var.operator_cidr))
    error_message = "operator_cidr: nothing, or a network as in 10.20.0.0/16."
  }
}

variable "s3_prefix_list" {
  type        = string
  description = "S3's addresses, which hold the layers of ECR's images. This is eu-west-2's; elsewhere: aws ec2 describe-prefix-lists --filters Name=prefix-list-name,Values=com.amazonaws.REGION.s3"
  default     = null

  validation {
    condition     = var.s3_prefix_list == null ? true : can(regex("^(?:pl-[0-9a-f]{8,17})$", var.s3_prefix_list))
    error_message = "s3_prefix_list: the id of a prefix list, as in pl-7ca54015."
  }
}

variable "log_retention_days" {
  type        = number
  description = "Days for which the record of all connections of this network is kept."
  default     = null

  validation {
    condition     = var.log_retention_days == null ? true : contains([30, 90, 180, 365, 731, 1827], var.log_retention_days)
    error_message = "log_retention_days: one of 30, 90, 180, 365, 731, 1827."
  }
}

variable "store_folder" {
  type        = string
  description = "Folder of the file system that holds the store. Another one only after a restore, which AWS Backup puts beside it."
  default     = null

  validation {
    condition     = var.store_folder == null ? true : can(regex("^(?:/[A-Za-z0-9._/-]{1,98})$", var.store_folder))
    error_message = "store_folder: an absolute path."
  }
}

variable "backup_days" {
  type        = number
  description = "Days for which daily copies of the file system are kept."
  default     = null

  validation {
    condition     = var.backup_days == null ? true : var.backup_days >= 7 && var.backup_days <= 3650
    error_message = "backup_days: MinValue 7, MaxValue 3650."
  }
}

variable "hub_image" {
  type        = string
  description = "The hub's image in the repository that ecr.yaml made, with its digest (@sha256:...) or release tag."

  validation {
    condition     = var.hub_image == null ? true : can(regex("^(?:\\d{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com(\\.cn)?/[a-z0-9/._-]+(@sha256:[0-9a-f]{64}|:[A-Za-z0-9._-]+))$", var.hub_image))
    error_message = "hub_image: an image of ECR with its digest or tag, as in 111111111111.dkr.ecr.eu-west-2.amazonaws.com/sfdata/hub:1.2.0."
  }
}

variable "trust_domain" {
  type        = string
  description = "First part of every identity, as in sfdata.region.example; need not exist in DNS. It can't be changed later without every agent and operator joining anew."

  validation {
    condition     = var.trust_domain == null ? true : can(regex("^(?:[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?)$", var.trust_domain))
    error_message = "trust_domain: lower-case letters, digits, dots and hyphens."
  }
}

variable "hub_id" {
  type        = string
  description = "This hub's own name, which stands in its certificate."
  default     = null

  validation {
    condition     = var.hub_id == null ? true : can(regex("^(?:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$", var.hub_id))
    error_message = "hub_id: lower-case letters, digits and inner hyphens."
  }
}

variable "tasks" {
  type        = number
  description = "1 runs the hub, 0 stops it. Begin with 0 - without the keys that InitCommand makes it does not start. Never more than one."
  default     = null

  validation {
    condition     = var.tasks == null ? true : contains([0, 1], var.tasks)
    error_message = "tasks: one of 0, 1."
  }
}

variable "public_host" {
  type        = string
  description = "What operators dial, where a name of your own leads to the load balancer. Empty: the load balancer's own name. Agents dial their own PrivateLink endpoint."
  default     = null

  validation {
    condition     = var.public_host == null ? true : can(regex("^(?:|[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)$", var.public_host))
    error_message = "public_host: nothing, or a host name in lower case without a port."
  }
}

variable "alarm_email" {
  type        = string
  description = "Who is told of alarms and of the hub's own alerts; AWS asks that address to confirm. Empty - nobody until something subscribes to the topic."
  default     = null

  validation {
    condition     = var.alarm_email == null ? true : can(regex("^(?:|[^@\\s,]+@[^@\\s,]+)$", var.alarm_email))
    error_message = "alarm_email: nothing, or one e-mail address."
  }
}

variable "dispatch_key_arn" {
  type        = string
  description = "KMS key of the spec ECC_NIST_EDWARDS25519 that signs dispatches. Empty - the hub makes a key of its own in its store's folder. It can be moved later (README, Rotating keys). With it comes an endpoint of KMS."
  default     = null

  validation {
    condition     = var.dispatch_key_arn == null ? true : can(regex("^(?:|arn:aws[a-z-]*:kms:[a-z0-9-]+:\\d{12}:key/[0-9a-f-]{36})$", var.dispatch_key_arn))
    error_message = "dispatch_key_arn: nothing, or the ARN of a key (not of an alias)."
  }
}

variable "maintenance" {
  type        = string
  description = "on lets an administrator run sfdata-hub rotate beside the running hub by aws ecs execute-command, for which the task's root file system has to be writable. Turn it off afterwards; each turn restarts the hub."
  default     = null

  validation {
    condition     = var.maintenance == null ? true : contains(["off", "on"], var.maintenance)
    error_message = "maintenance: one of off, on."
  }
}

variable "cpu" {
  type        = number
  description = "Of the task, in 1/1024 vCPU. 512 serves some hundred LAs with room to spare."
  default     = null

  validation {
    condition     = var.cpu == null ? true : contains([256, 512, 1024, 2048], var.cpu)
    error_message = "cpu: one of 256, 512, 1024, 2048."
  }
}

variable "memory" {
  type        = number
  description = "Of the task, in MiB. CPU and memory have to be a pair that Fargate offers (512 goes with 1024 to 4096)."
  default     = null

  validation {
    condition     = var.memory == null ? true : contains([512, 1024, 2048, 4096], var.memory)
    error_message = "memory: one of 512, 1024, 2048, 4096."
  }
}

variable "shared_with" {
  type        = string
  description = "ARN of the organisational unit of the LAs' accounts. Sharing within the organisation has to be on, once and for all: aws ram enable-sharing-with-aws-organization"
  default     = null

  validation {
    condition     = var.shared_with == null ? true : can(regex("^(?:arn:aws[a-z-]*:organizations::\\d{12}:(ou|organization)/.+)$", var.shared_with))
    error_message = "shared_with: the ARN of an organisational unit: aws organizations describe-organizational-unit."
  }
}

variable "shared_subnet_cidrs" {
  type        = list(string)
  description = "Two parts of network.yaml's VpcCidr that are not the hub's, one in each of two zones. Each task of an LA takes an address."
  default     = null
}

variable "core_account" {
  type        = string
  description = "Number of the core account, whose registry has the images."
  default     = null

  validation {
    condition     = var.core_account == null ? true : can(regex("^(?:\\d{12})$", var.core_account))
    error_message = "core_account: the 12 digits of an account."
  }
}

variable "organizational_unit_ids" {
  type        = list(string)
  description = "The LAs' organisational units, as in ou-ab12-c3d4e5f6 (aws organizations list-organizational-units-for-parent)."
  default     = null

  validation {
    condition     = var.organizational_unit_ids == null ? true : alltrue([for item in var.organizational_unit_ids : can(regex("^(?:ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}|r-[0-9a-z]{4,32})$", item))])
    error_message = "organizational_unit_ids: ids of organisational units separated by commas, as in ou-ab12-c3d4e5f6."
  }
}

variable "role_template_url" {
  type        = string
  description = "Where child/role.yaml lies in S3, which whoever loads this stack has to be able to read."
  default     = null

  validation {
    condition     = var.role_template_url == null ? true : can(regex("^(?:https://[a-z0-9.-]+\\.amazonaws\\.com/.+)$", var.role_template_url))
    error_message = "role_template_url: an address in S3, as in https://BUCKET.s3.eu-west-2.amazonaws.com/role.yaml."
  }
}

variable "call_as" {
  type        = string
  description = "SELF in the organisation's management account, DELEGATED_ADMIN in the account that may deploy in its name."
  default     = null

  validation {
    condition     = var.call_as == null ? true : contains(["DELEGATED_ADMIN", "SELF"], var.call_as)
    error_message = "call_as: one of DELEGATED_ADMIN, SELF."
  }
}
