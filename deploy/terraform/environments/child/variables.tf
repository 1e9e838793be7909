# Written by deploy/terraform/generate.py: change the templates and run it again.

variable "stacks" {
  type        = set(string)
  description = "Which stacks are made: some of network, endpoints, storage, database, balancer, dagster-roles, dagster, frontend, role, agent."
  default     = ["network", "endpoints", "storage", "database", "dagster-roles", "dagster", "role", "agent"]

  validation {
    condition     = length(setsubtract(var.stacks, ["network", "endpoints", "storage", "database", "balancer", "dagster-roles", "dagster", "frontend", "role", "agent"])) == 0
    error_message = "There are the stacks network, endpoints, storage, database, balancer, dagster-roles, dagster, frontend, role, agent."
  }
}

variable "la_name" {
  type        = string
  description = "Name of the local authority, as the hub registers its agent: lower-case letters, digits and inner hyphens, such as camden. It is on the bill as the tag sfdata:la; names do not repeat it, since an account has one LA."

  validation {
    condition     = var.la_name == null ? true : can(regex("^(?:^[a-z][a-z0-9]*(-[a-z0-9]+)*$)$", var.la_name)) && length(var.la_name) <= 30
    error_message = "la_name: at most 30 lower-case letters, digits and inner hyphens, beginning with a letter."
  }
}

variable "network" {
  type        = string
  description = "own - a VPC of its own, which needs HubService. shared - security groups alone, which need the four Shared and Hub values below."
  default     = null

  validation {
    condition     = var.network == null ? true : contains(["own", "shared"], var.network)
    error_message = "network: one of own, shared."
  }
}

variable "hub_service" {
  type        = string
  description = "Own network. Name of the hub's PrivateLink service, HubService among the outputs of the core account's network."
  default     = null

  validation {
    condition     = var.hub_service == null ? true : can(regex("^(?:^$|^com\\.amazonaws\\.vpce\\.[a-z0-9-]+\\.vpce-svc-[0-9a-f]+$)$", var.hub_service))
    error_message = "hub_service: as in com.amazonaws.vpce.eu-west-2.vpce-svc-0123456789abcdef0."
  }
}

variable "vpc_cidr" {
  type        = string
  description = "Own network. Its addresses, halved between two zones; they may be the same in each LA, as nothing routes between them."
  default     = null

  validation {
    condition     = var.vpc_cidr == null ? true : can(regex("^(?:^([0-9]{1,3}\\.){3}[0-9]{1,3}/(1[6-9]|2[0-3])$)$", var.vpc_cidr))
    error_message = "vpc_cidr: a network from /16 to /23, as in 10.80.0.0/23."
  }
}

variable "endpoint_zones" {
  type        = string
  description = "Own network. one - endpoints stand in the first zone, and serve both. two - in both, for twice the price - the platform goes on when AWS loses a zone, for which the daemon's schedules can usually wait."
  default     = null

  validation {
    condition     = var.endpoint_zones == null ? true : contains(["one", "two"], var.endpoint_zones)
    error_message = "endpoint_zones: one of one, two."
  }
}

variable "shared_vpc_id" {
  type        = string
  description = "Shared network. The VPC, VpcId among the outputs of the core account's network."
  default     = null

  validation {
    condition     = var.shared_vpc_id == null ? true : can(regex("^(?:^$|^vpc-[0-9a-f]+$)$", var.shared_vpc_id))
    error_message = "shared_vpc_id: as in vpc-0123456789abcdef0."
  }
}

variable "shared_subnet_ids" {
  type        = list(string)
  description = "Shared network. Two subnets in two zones, SharedSubnetIds among the outputs of the core account."
  default     = null
}

variable "shared_vpc_cidr" {
  type        = string
  description = "Shared network. All addresses of that VPC, where its endpoints and the hub's load balancer are."
  default     = null

  validation {
    condition     = var.shared_vpc_cidr == null ? true : can(regex("^(?:^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$)$", var.shared_vpc_cidr))
    error_message = "shared_vpc_cidr: a network, as in 10.90.0.0/16."
  }
}

variable "hub_address" {
  type        = string
  description = "Shared network. Name of the hub's load balancer, HubAddress among the outputs of the core account's network."
  default     = null

  validation {
    condition     = var.hub_address == null ? true : can(regex("^(?:^$|^[a-z0-9]([A-Za-z0-9.-]*[a-z0-9])?$)$", var.hub_address))
    error_message = "hub_address: a host name without a port."
  }
}

variable "adopted_webserver_group" {
  type        = string
  description = "Shared network, for a platform that other templates made. Security group of its webserver's tasks; it gets one rule more, which lets the agent in, and loses it with this stack."
  default     = null

  validation {
    condition     = var.adopted_webserver_group == null ? true : can(regex("^(?:^$|^sg-[0-9a-f]+$)$", var.adopted_webserver_group))
    error_message = "adopted_webserver_group: empty, or as in sg-0123456789abcdef0."
  }
}

variable "adopted_webserver_port" {
  type        = number
  description = "Port of that webserver's container."
  default     = null

  validation {
    condition     = var.adopted_webserver_port == null ? true : var.adopted_webserver_port >= 1 && var.adopted_webserver_port <= 65535
    error_message = "adopted_webserver_port: MinValue 1, MaxValue 65535."
  }
}

variable "hub_port" {
  type        = number
  description = "Port of the hub for agents."
  default     = null

  validation {
    condition     = var.hub_port == null ? true : var.hub_port >= 1 && var.hub_port <= 65535
    error_message = "hub_port: MinValue 1, MaxValue 65535."
  }
}

variable "enrol_port" {
  type        = number
  description = "Port of the hub for joining."
  default     = null

  validation {
    condition     = var.enrol_port == null ? true : var.enrol_port >= 1 && var.enrol_port <= 65535
    error_message = "enrol_port: MinValue 1, MaxValue 65535."
  }
}

variable "s3_prefix_list" {
  type        = string
  description = "S3's addresses. This is eu-west-2's; elsewhere - aws ec2 describe-prefix-lists --filters Name=prefix-list-name,Values=com.amazonaws.REGION.s3"
  default     = null

  validation {
    condition     = var.s3_prefix_list == null ? true : can(regex("^(?:^pl-[0-9a-f]{8,17}$)$", var.s3_prefix_list))
    error_message = "s3_prefix_list: the id of a prefix list, as in pl-7ca54015."
  }
}

variable "load_balancer" {
  type        = string
  description = "Whether a load balancer stands before Dagster's page, for those in ClientCidr. Otherwise the page is reached through the agent alone."
  default     = null

  validation {
    condition     = var.load_balancer == null ? true : contains(["yes", "no"], var.load_balancer)
    error_message = "load_balancer: one of yes, no."
  }
}

variable "frontend" {
  type        = string
  description = "Whether there is an upload front end, which stays up behind a load balancer, for those in ClientCidr."
  default     = null

  validation {
    condition     = var.frontend == null ? true : contains(["yes", "no"], var.frontend)
    error_message = "frontend: one of yes, no."
  }
}

variable "frontend_port" {
  type        = number
  description = "Port of the upload front end's container."
  default     = null

  validation {
    condition     = var.frontend_port == null ? true : var.frontend_port >= 1024 && var.frontend_port <= 65535
    error_message = "frontend_port: MinValue 1024, MaxValue 65535."
  }
}

variable "client_cidr" {
  type        = string
  description = "From where the load balancer is reached: the LA's own network, which has to be routed here by a VPN or a peering that these templates do not make. Never everybody."
  default     = null

  validation {
    condition     = var.client_cidr == null ? true : can(regex("^(?:^$|^([0-9]{1,3}\\.){3}[0-9]{1,3}/([89]|[12][0-9]|3[0-2])$)$", var.client_cidr))
    error_message = "client_cidr: empty, or a network from /8 to /32, as in 10.20.0.0/16."
  }
}

variable "images" {
  type        = string
  description = "For the agent of the core account alone. Prefix of core/ecr.yaml, whose repositories operators may then list and give a release's tag (hubctl images). Empty - none."
  default     = null

  validation {
    condition     = var.images == null ? true : can(regex("^(?:^$|^[a-z][a-z0-9-]{1,15}$)$", var.images))
    error_message = "images: empty, or the Prefix of the core's stacks, as in sfdata."
  }
}

variable "copies" {
  type        = string
  description = "Whether what is put into the data store and the shared bucket is copied to a backup bucket, in this account and region. It doubles what is paid for storage, and helps against what a person or a pipeline deletes."
  default     = null

  validation {
    condition     = var.copies == null ? true : contains(["yes", "no"], var.copies)
    error_message = "copies: one of yes, no."
  }
}

variable "core_reader" {
  type        = string
  description = "ARN of the core account's role that the LA may let in to the shared bucket. It lets nobody in: it allows the role to decrypt, through S3, what the bucket's policy lets it read once the LA has shared it. Empty - nobody."
  default     = null

  validation {
    condition     = var.core_reader == null ? true : can(regex("^(?:^$|^arn:aws:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$)$", var.core_reader))
    error_message = "core_reader: empty, or the ARN of an IAM role."
  }
}

variable "alarm_topic" {
  type        = string
  description = "ARN of the SNS topic that alarms are sent to. Empty - alarms are only shown in CloudWatch."
  default     = null

  validation {
    condition     = var.alarm_topic == null ? true : can(regex("^(?:^$|^arn:aws:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$)$", var.alarm_topic))
    error_message = "alarm_topic: empty, or the ARN of an SNS topic."
  }
}

variable "database" {
  type        = string
  description = "Which kind of database Dagster has - aurora pauses when nobody asks it, instance is a plain one that always runs."
  default     = null

  validation {
    condition     = var.database == null ? true : contains(["aurora", "instance"], var.database)
    error_message = "database: one of aurora, instance."
  }
}

variable "engine_version" {
  type        = string
  description = "Version of PostgreSQL. Aurora pauses from 16.3, 15.7, 14.12 and 13.15 on."
  default     = null

  validation {
    condition     = var.engine_version == null ? true : can(regex("^(?:^1[3-9]\\.[0-9]{1,2}$)$", var.engine_version))
    error_message = "engine_version: AllowedPattern ^1[3-9]\\.[0-9]{1,2}$."
  }
}

variable "most_capacity" {
  type        = number
  description = "aurora - the most ACUs (2 GiB of memory each). The fewest are 0."
  default     = null

  validation {
    condition     = var.most_capacity == null ? true : var.most_capacity >= 1 && var.most_capacity <= 32
    error_message = "most_capacity: MinValue 1, MaxValue 32."
  }
}

variable "pause_seconds" {
  type        = number
  description = "aurora - seconds without a connection after which it pauses."
  default     = null

  validation {
    condition     = var.pause_seconds == null ? true : var.pause_seconds >= 300 && var.pause_seconds <= 86400
    error_message = "pause_seconds: MinValue 300, MaxValue 86400."
  }
}

variable "instance_class" {
  type        = string
  description = "instance - its class."
  default     = null

  validation {
    condition     = var.instance_class == null ? true : can(regex("^(?:^db\\.[a-z0-9]+\\.[a-z0-9]+$)$", var.instance_class))
    error_message = "instance_class: AllowedPattern ^db\\.[a-z0-9]+\\.[a-z0-9]+$."
  }
}

variable "certificate_arn" {
  type        = string
  description = "Certificate of the load balancer in ACM, in this region."
  default     = null

  validation {
    condition     = var.certificate_arn == null ? true : can(regex("^(?:^arn:aws:acm:[a-z0-9-]+:[0-9]{12}:certificate/[0-9a-f-]+$)$", var.certificate_arn))
    error_message = "certificate_arn: the ARN of a certificate."
  }
}

variable "core_account" {
  type        = string
  description = "Number of the core account, whose registry has the images."

  validation {
    condition     = var.core_account == null ? true : can(regex("^(?:^[0-9]{12}$)$", var.core_account))
    error_message = "core_account: the 12 digits of an account."
  }
}

variable "desired_counts" {
  type        = string
  description = "zero - for the first time, nothing runs until the agent wakes it. kept - in every update, how many run stays as the agent has it."
  default     = null

  validation {
    condition     = var.desired_counts == null ? true : contains(["zero", "kept"], var.desired_counts)
    error_message = "desired_counts: one of zero, kept."
  }
}

variable "dagster_tag" {
  type        = string
  description = "Release of Dagster's webserver and daemon, a tag of the core account's repository sfdata/dagster."
  default     = null

  validation {
    condition     = var.dagster_tag == null ? true : can(regex("^(?:^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$)$", var.dagster_tag))
    error_message = "dagster_tag: AllowedPattern ^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$."
  }
}

variable "code_tag" {
  type        = string
  description = "Release of the pipelines, a tag of the core account's repository sfdata/code-server."
  default     = null

  validation {
    condition     = var.code_tag == null ? true : can(regex("^(?:^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$)$", var.code_tag))
    error_message = "code_tag: AllowedPattern ^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$."
  }
}

variable "code_module" {
  type        = string
  description = "Python module of the pipelines, as dagster api grpc -m takes it; also the name of the code location."
  default     = null

  validation {
    condition     = var.code_module == null ? true : can(regex("^(?:^[A-Za-z_][A-Za-z0-9_.]*$)$", var.code_module))
    error_message = "code_module: AllowedPattern ^[A-Za-z_][A-Za-z0-9_.]*$."
  }
}

variable "architecture" {
  type        = string
  description = "What the images were built for. ARM64 costs a fifth less."
  default     = null

  validation {
    condition     = var.architecture == null ? true : contains(["X86_64", "ARM64"], var.architecture)
    error_message = "architecture: one of X86_64, ARM64."
  }
}

variable "sensor_seconds" {
  type        = number
  description = "Seconds between two looks of a sensor (SENSOR_MIN_INTERVAL). The shorter, the sooner a chain of jobs ends and all can sleep."
  default     = null

  validation {
    condition     = var.sensor_seconds == null ? true : var.sensor_seconds >= 30 && var.sensor_seconds <= 3600
    error_message = "sensor_seconds: MinValue 30, MaxValue 3600."
  }
}

variable "runs_at_once" {
  type        = number
  description = "Most runs at a time; what comes on top waits in Dagster's queue."
  default     = null

  validation {
    condition     = var.runs_at_once == null ? true : var.runs_at_once >= 1 && var.runs_at_once <= 50
    error_message = "runs_at_once: MinValue 1, MaxValue 50."
  }
}

variable "run_capacity" {
  type        = string
  description = "What runs are started on. FARGATE_SPOT costs a third, and a run whose task AWS takes away has failed."
  default     = null

  validation {
    condition     = var.run_capacity == null ? true : contains(["FARGATE", "FARGATE_SPOT"], var.run_capacity)
    error_message = "run_capacity: one of FARGATE, FARGATE_SPOT."
  }
}

variable "log_days" {
  type        = number
  description = "Days for which the lines of Dagster's tasks are kept."
  default     = null

  validation {
    condition     = var.log_days == null ? true : contains([30, 90, 180, 365, 731, 1827], var.log_days)
    error_message = "log_days: one of 30, 90, 180, 365, 731, 1827."
  }
}

variable "frontend_repository" {
  type        = string
  description = "Repository of the core account with the upload front end's images."
  default     = null

  validation {
    condition     = var.frontend_repository == null ? true : can(regex("^(?:^[a-z0-9]+([._/-][a-z0-9]+)*$)$", var.frontend_repository))
    error_message = "frontend_repository: AllowedPattern ^[a-z0-9]+([._/-][a-z0-9]+)*$."
  }
}

variable "frontend_tag" {
  type        = string
  description = "Release of the upload front end."
  default     = null

  validation {
    condition     = var.frontend_tag == null ? true : can(regex("^(?:^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$)$", var.frontend_tag))
    error_message = "frontend_tag: AllowedPattern ^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$."
  }
}

variable "agent_repository" {
  type        = string
  description = "Repository of the core account with the agent's images."
  default     = null

  validation {
    condition     = var.agent_repository == null ? true : can(regex("^(?:^[a-z0-9]+([._/-][a-z0-9]+)*$)$", var.agent_repository))
    error_message = "agent_repository: AllowedPattern ^[a-z0-9]+([._/-][a-z0-9]+)*$."
  }
}

variable "files" {
  type        = string
  description = "Whether operators may get URLs to single files, where the LA's policy lets them. Without it the agent's role can read no file."
  default     = null

  validation {
    condition     = var.files == null ? true : contains(["yes", "no"], var.files)
    error_message = "files: one of yes, no."
  }
}

variable "bill" {
  type        = string
  description = "Whether AWS's bill of this account is told to the hub. Cost Explorer takes 0.01 USD a day for it, and has no endpoint in a VPC of Europe, so that it needs a way to the internet."
  default     = null

  validation {
    condition     = var.bill == null ? true : contains(["yes", "no"], var.bill)
    error_message = "bill: one of yes, no."
  }
}

variable "cluster" {
  type        = string
  description = "ECS cluster of the platform, in which the agent runs as well. It needs the capacity providers of Fargate."
  default     = null

  validation {
    condition     = var.cluster == null ? true : can(regex("^(?:^[A-Za-z0-9_-]{1,255}$)$", var.cluster))
    error_message = "cluster: AllowedPattern ^[A-Za-z0-9_-]{1,255}$."
  }
}

variable "aurora_cluster" {
  type        = string
  description = "Database cluster, where Database is aurora."
  default     = null

  validation {
    condition     = var.aurora_cluster == null ? true : can(regex("^(?:^[a-z][a-z0-9-]*$)$", var.aurora_cluster))
    error_message = "aurora_cluster: AllowedPattern ^[a-z][a-z0-9-]*$."
  }
}

variable "database_instance" {
  type        = string
  description = "Database instance, where Database is instance."
  default     = null

  validation {
    condition     = var.database_instance == null ? true : can(regex("^(?:^[a-z][a-z0-9-]*$)$", var.database_instance))
    error_message = "database_instance: AllowedPattern ^[a-z][a-z0-9-]*$."
  }
}

variable "log_group" {
  type        = string
  description = "Log group of Dagster's tasks."
  default     = null

  validation {
    condition     = var.log_group == null ? true : can(regex("^(?:^[A-Za-z0-9_./#-]+$)$", var.log_group))
    error_message = "log_group: AllowedPattern ^[A-Za-z0-9_./#-]+$."
  }
}

variable "passable_roles" {
  type        = list(string)
  description = "Adopted services alone. ARNs of the task and execution roles of their task definitions, with commas between them, one * at an end where names end differently. Without a role here the agent can't give its service another image or run a task of it. The roles that these templates make need none."
  default     = null

  validation {
    condition     = var.passable_roles == null ? true : alltrue([for item in var.passable_roles : can(regex("^(?:^$|^arn:aws:iam::[0-9]{12}:role/[A-Za-z0-9+=.@_/-]*[A-Za-z0-9+=.@_-]\\*?$)$", item))])
    error_message = "passable_roles: empty, or ARNs of roles with commas between them; not of all roles."
  }
}

variable "arrivals_queue" {
  type        = string
  description = "SQS queue of this account that tells what was uploaded. Empty - the data store is listed each minute."
  default     = null

  validation {
    condition     = var.arrivals_queue == null ? true : can(regex("^(?:^[A-Za-z0-9_-]{0,80}$)$", var.arrivals_queue))
    error_message = "arrivals_queue: AllowedPattern ^[A-Za-z0-9_-]{0,80}$."
  }
}

variable "storage" {
  type        = string
  description = "new - buckets and key are those of storage.yaml, and everything below stays empty. adopted - they are those that are named below, as sfdata-agent discover tells it, and storage.yaml is not loaded."
  default     = null

  validation {
    condition     = var.storage == null ? true : contains(["new", "adopted"], var.storage)
    error_message = "storage: one of new, adopted."
  }
}

variable "data_store" {
  type        = string
  description = "Bucket that the LA uploads to."
  default     = null

  validation {
    condition     = var.data_store == null ? true : can(regex("^(?:^[a-z0-9.-]*$)$", var.data_store))
    error_message = "data_store: AllowedPattern ^[a-z0-9.-]*$."
  }
}

variable "workspace" {
  type        = string
  description = "Bucket between the steps."
  default     = null

  validation {
    condition     = var.workspace == null ? true : can(regex("^(?:^[a-z0-9.-]*$)$", var.workspace))
    error_message = "workspace: AllowedPattern ^[a-z0-9.-]*$."
  }
}

variable "shared" {
  type        = string
  description = "Bucket of what may be shared."
  default     = null

  validation {
    condition     = var.shared == null ? true : can(regex("^(?:^[a-z0-9.-]*$)$", var.shared))
    error_message = "shared: AllowedPattern ^[a-z0-9.-]*$."
  }
}

variable "backup" {
  type        = string
  description = "Bucket of the copies, if there is one."
  default     = null

  validation {
    condition     = var.backup == null ? true : can(regex("^(?:^[a-z0-9.-]*$)$", var.backup))
    error_message = "backup: AllowedPattern ^[a-z0-9.-]*$."
  }
}

variable "replication_role" {
  type        = string
  description = "ARN of the role that S3 copies to the backup with, if there is one."
  default     = null

  validation {
    condition     = var.replication_role == null ? true : can(regex("^(?:^$|^arn:aws:iam::[0-9]{12}:role/.+$)$", var.replication_role))
    error_message = "replication_role: empty, or an ARN."
  }
}

variable "kms_key" {
  type        = string
  description = "ARN of the KMS key that buckets are encrypted with, if there is one."
  default     = null

  validation {
    condition     = var.kms_key == null ? true : can(regex("^(?:^$|^arn:aws:kms:[a-z0-9-]+:[0-9]{12}:key/.+$)$", var.kms_key))
    error_message = "kms_key: empty, or an ARN."
  }
}

variable "trust_pin" {
  type        = string
  description = "Whom the agent trusts, and nobody else: TRUST_DOMAIN/CA_PIN/ROOT_PIN, the trust_domain, ca_pin and root_pin that hubctl agents register prints. Compare it with what you were told another way."

  validation {
    condition     = var.trust_pin == null ? true : can(regex("^(?:^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[0-9a-f]{64}/[0-9a-f]{64}$)$", var.trust_pin))
    error_message = "trust_pin: a domain and two pins of 64 hexadecimal digits, with slashes between them."
  }
}

variable "agent_tag" {
  type        = string
  description = "Release of the agent, a tag of the core account's repository."
  default     = null

  validation {
    condition     = var.agent_tag == null ? true : can(regex("^(?:^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$)$", var.agent_tag))
    error_message = "agent_tag: AllowedPattern ^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$."
  }
}

variable "capacity" {
  type        = string
  description = "What the agent runs on. FARGATE_SPOT costs a third; AWS may take the task away with two minutes' notice, and ECS never moves it to on-demand by itself. Change to FARGATE where the alarm says that no agent runs for want of Spot."
  default     = null

  validation {
    condition     = var.capacity == null ? true : contains(["FARGATE_SPOT", "FARGATE"], var.capacity)
    error_message = "capacity: one of FARGATE_SPOT, FARGATE."
  }
}

variable "sleep" {
  type        = string
  description = "Whether the agent puts Dagster to sleep when there is nothing to do, and wakes it. Otherwise it stays as people leave it."
  default     = null

  validation {
    condition     = var.sleep == null ? true : contains(["yes", "no"], var.sleep)
    error_message = "sleep: one of yes, no."
  }
}

variable "more_toml" {
  type        = string
  description = "More sections for the agent's configuration, as deploy/config/agent.toml shows them, such as [[arrivals.rule]] and [[freeze]]."
  default     = null

  validation {
    condition     = var.more_toml == null ? true : length(var.more_toml) <= 4096
    error_message = "more_toml: MaxLength 4096."
  }
}

variable "webserver" {
  type        = string
  description = "ECS service of Dagster's page."
  default     = null

  validation {
    condition     = var.webserver == null ? true : can(regex("^(?:^[A-Za-z0-9_-]+$)$", var.webserver))
    error_message = "webserver: AllowedPattern ^[A-Za-z0-9_-]+$."
  }
}

variable "daemon" {
  type        = string
  description = "ECS service of Dagster's daemon."
  default     = null

  validation {
    condition     = var.daemon == null ? true : can(regex("^(?:^[A-Za-z0-9_-]+$)$", var.daemon))
    error_message = "daemon: AllowedPattern ^[A-Za-z0-9_-]+$."
  }
}

variable "code_servers" {
  type        = list(string)
  description = "ECS services of Dagster's code locations, with commas between them. Empty - webserver and daemon load the code themselves."
  default     = null
}

variable "other_services" {
  type        = list(string)
  description = "Further ECS services of the platform, such as the upload front end (frontend). The agent never puts them to sleep."
  default     = null
}

variable "access_logs" {
  type        = string
  description = "Bucket of the access logs, if there is one."
  default     = null

  validation {
    condition     = var.access_logs == null ? true : can(regex("^(?:^[a-z0-9.-]*$)$", var.access_logs))
    error_message = "access_logs: AllowedPattern ^[a-z0-9.-]*$."
  }
}
