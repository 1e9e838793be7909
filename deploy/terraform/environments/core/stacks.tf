# Written by deploy/terraform/generate.py: change the templates and run it again.

locals {
  name = coalesce(var.prefix, "sfdata")
}

module "ecr" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "ecr") ? 1 : 0

  name         = "${local.name}-ecr"
  template     = "${path.module}/../../../cloudformation/core/ecr.yaml"
  capabilities = []
  required     = ["OrganizationId"]
  parameters = {
    Prefix         = var.prefix
    OrganizationId = var.organization_id
    UntaggedDays   = var.untagged_days
  }
  rules = []
}

module "network" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "network") ? 1 : 0

  name         = "${local.name}-network"
  template     = "${path.module}/../../../cloudformation/core/network.yaml"
  capabilities = ["CAPABILITY_IAM"]
  required     = ["OrganizationId"]
  parameters = {
    Prefix            = var.prefix
    OrganizationId    = var.organization_id
    VpcCidr           = var.vpc_cidr
    HubSubnetCidrs    = var.hub_subnet_cidrs == null ? null : join(",", var.hub_subnet_cidrs)
    AllowedPrincipals = var.allowed_principals == null ? null : join(",", var.allowed_principals)
    OperatorCidr      = var.operator_cidr
    S3PrefixList      = var.s3_prefix_list
    LogRetentionDays  = var.log_retention_days
  }
  rules = []

  depends_on = [module.ecr]
}

module "store" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "store") ? 1 : 0

  name         = "${local.name}-store"
  template     = "${path.module}/../../../cloudformation/core/store.yaml"
  capabilities = ["CAPABILITY_IAM"]
  required     = []
  parameters = {
    Prefix      = var.prefix
    StoreFolder = var.store_folder
    BackupDays  = var.backup_days
  }
  rules = []

  depends_on = [module.ecr, module.network]
}

module "hub" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "hub") ? 1 : 0

  name         = "${local.name}-hub"
  template     = "${path.module}/../../../cloudformation/core/hub.yaml"
  capabilities = ["CAPABILITY_NAMED_IAM"]
  required     = ["HubImage", "TrustDomain"]
  parameters = {
    Prefix           = var.prefix
    HubImage         = var.hub_image
    TrustDomain      = var.trust_domain
    HubId            = var.hub_id
    Tasks            = var.tasks
    PublicHost       = var.public_host
    AlarmEmail       = var.alarm_email
    DispatchKeyArn   = var.dispatch_key_arn
    Maintenance      = var.maintenance
    LogRetentionDays = var.log_retention_days
    Cpu              = var.cpu
    Memory           = var.memory
  }
  rules = []

  depends_on = [module.ecr, module.network, module.store]
}

module "shared" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "shared") ? 1 : 0

  name         = "${local.name}-shared"
  template     = "${path.module}/../../../cloudformation/core/shared.yaml"
  capabilities = []
  required     = ["OrganizationId", "SharedWith"]
  parameters = {
    Prefix            = var.prefix
    OrganizationId    = var.organization_id
    SharedWith        = var.shared_with
    SharedSubnetCidrs = var.shared_subnet_cidrs == null ? null : join(",", var.shared_subnet_cidrs)
  }
  rules = []

  depends_on = [module.ecr, module.network, module.store, module.hub]
}

module "stackset" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "stackset") ? 1 : 0

  name         = "${local.name}-stackset"
  template     = "${path.module}/../../../cloudformation/stackset.yaml"
  capabilities = []
  required     = ["CoreAccount", "OrganizationalUnitIds", "RoleTemplateUrl"]
  parameters = {
    Prefix                = var.prefix
    CoreAccount           = var.core_account
    OrganizationalUnitIds = var.organizational_unit_ids == null ? null : join(",", var.organizational_unit_ids)
    RoleTemplateUrl       = var.role_template_url
    CallAs                = var.call_as
  }
  rules = []

  depends_on = [module.ecr, module.network, module.store, module.hub, module.shared]
}

output "stacks" {
  description = "The outputs of each stack; null of one that is not made."
  value = {
    ecr      = one(module.ecr[*].outputs)
    network  = one(module.network[*].outputs)
    store    = one(module.store[*].outputs)
    hub      = one(module.hub[*].outputs)
    shared   = one(module.shared[*].outputs)
    stackset = one(module.stackset[*].outputs)
  }
}
