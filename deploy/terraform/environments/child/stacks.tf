# Written by deploy/terraform/generate.py: change the templates and run it again.

locals {
  name = coalesce(var.account, "-") == var.core_account ? "sfdata-la" : "sfdata"
}

module "network" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "network") ? 1 : 0

  name         = "${local.name}-network"
  template     = "${path.module}/../../../cloudformation/child/network.yaml"
  capabilities = []
  required     = ["LaName"]
  parameters = {
    LaName                = var.la_name
    Network               = var.network
    HubService            = var.hub_service
    VpcCidr               = var.vpc_cidr
    EndpointZones         = var.endpoint_zones
    SharedVpcId           = var.shared_vpc_id
    SharedSubnetIds       = var.shared_subnet_ids == null ? null : join(",", var.shared_subnet_ids)
    SharedVpcCidr         = var.shared_vpc_cidr
    HubAddress            = var.hub_address
    AdoptedWebserverGroup = var.adopted_webserver_group
    AdoptedWebserverPort  = var.adopted_webserver_port
    HubPort               = var.hub_port
    EnrolPort             = var.enrol_port
    S3PrefixList          = var.s3_prefix_list
    LoadBalancer          = var.load_balancer
    Frontend              = var.frontend
    FrontendPort          = var.frontend_port
    ClientCidr            = var.client_cidr
  }
  rules = [
    { holds = !((var.network == null ? "own" : var.network) == "own") || !((var.hub_service == null ? "" : var.hub_service) == ""), message = "An own network needs HubService" },
    { holds = !((var.network == null ? "own" : var.network) == "shared") || (!((var.shared_vpc_id == null ? "" : var.shared_vpc_id) == "") && !((var.hub_address == null ? "" : var.hub_address) == "")), message = "A shared network needs SharedVpcId, SharedSubnetIds, SharedVpcCidr and HubAddress" },
    { holds = !(((var.load_balancer == null ? "no" : var.load_balancer) == "yes") || ((var.frontend == null ? "no" : var.frontend) == "yes")) || !((var.client_cidr == null ? "" : var.client_cidr) == ""), message = "A load balancer needs ClientCidr, the network of those who may reach it" },
  ]
}

module "endpoints" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "endpoints") ? 1 : 0

  name         = "${local.name}-endpoints"
  template     = "${path.module}/../../../cloudformation/child/endpoints.yaml"
  capabilities = []
  required     = ["LaName"]
  parameters = {
    LaName = var.la_name
    Images = var.images
  }
  rules = []

  depends_on = [module.network]
}

module "storage" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "storage") ? 1 : 0

  name         = "${local.name}-storage"
  template     = "${path.module}/../../../cloudformation/child/storage.yaml"
  capabilities = ["CAPABILITY_NAMED_IAM"]
  required     = ["LaName"]
  parameters = {
    LaName     = var.la_name
    Copies     = var.copies
    CoreReader = var.core_reader
    AlarmTopic = var.alarm_topic
  }
  rules = []

  depends_on = [module.network, module.endpoints]
}

module "database" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "database") ? 1 : 0

  name         = "${local.name}-database"
  template     = "${path.module}/../../../cloudformation/child/database.yaml"
  capabilities = []
  required     = ["LaName"]
  parameters = {
    LaName        = var.la_name
    Database      = var.database
    EngineVersion = var.engine_version
    MostCapacity  = var.most_capacity
    PauseSeconds  = var.pause_seconds
    InstanceClass = var.instance_class
  }
  rules = []

  depends_on = [module.network, module.endpoints, module.storage]
}

module "balancer" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "balancer") ? 1 : 0

  name         = "${local.name}-balancer"
  template     = "${path.module}/../../../cloudformation/child/balancer.yaml"
  capabilities = []
  required     = ["LaName", "CertificateArn"]
  parameters = {
    LaName         = var.la_name
    CertificateArn = var.certificate_arn
    LoadBalancer   = var.load_balancer
    Frontend       = var.frontend
    FrontendPort   = var.frontend_port
  }
  rules = []

  depends_on = [module.network, module.endpoints, module.storage, module.database]
}

module "dagster-roles" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "dagster-roles") ? 1 : 0

  name         = "${local.name}-dagster-roles"
  template     = "${path.module}/../../../cloudformation/child/dagster-roles.yaml"
  capabilities = ["CAPABILITY_NAMED_IAM"]
  required     = ["CoreAccount"]
  parameters = {
    CoreAccount = var.core_account
  }
  rules = []

  depends_on = [module.network, module.endpoints, module.storage, module.database, module.balancer]
}

module "dagster" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "dagster") ? 1 : 0

  name         = "${local.name}-dagster"
  template     = "${path.module}/../../../cloudformation/child/dagster.yaml"
  capabilities = []
  required     = ["LaName", "CoreAccount"]
  parameters = {
    LaName        = var.la_name
    CoreAccount   = var.core_account
    DesiredCounts = var.desired_counts
    DagsterTag    = var.dagster_tag
    CodeTag       = var.code_tag
    CodeModule    = var.code_module
    Architecture  = var.architecture
    SensorSeconds = var.sensor_seconds
    RunsAtOnce    = var.runs_at_once
    RunCapacity   = var.run_capacity
    LogDays       = var.log_days
    LoadBalancer  = var.load_balancer
  }
  rules = []

  depends_on = [module.network, module.endpoints, module.storage, module.database, module.balancer, module.dagster-roles]
}

module "frontend" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "frontend") ? 1 : 0

  name         = "${local.name}-frontend"
  template     = "${path.module}/../../../cloudformation/child/frontend.yaml"
  capabilities = ["CAPABILITY_NAMED_IAM"]
  required     = ["LaName", "CoreAccount"]
  parameters = {
    LaName             = var.la_name
    CoreAccount        = var.core_account
    Architecture       = var.architecture
    FrontendRepository = var.frontend_repository
    FrontendTag        = var.frontend_tag
    FrontendPort       = var.frontend_port
  }
  rules = []

  depends_on = [module.network, module.endpoints, module.storage, module.database, module.balancer, module.dagster-roles, module.dagster]
}

module "role" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "role") ? 1 : 0

  name         = "${local.name}-role"
  template     = "${path.module}/../../../cloudformation/child/role.yaml"
  capabilities = ["CAPABILITY_NAMED_IAM"]
  required     = ["CoreAccount"]
  parameters = {
    CoreAccount      = var.core_account
    AgentRepository  = var.agent_repository
    Files            = var.files
    Bill             = var.bill
    Images           = var.images
    Database         = var.database
    Cluster          = var.cluster
    AuroraCluster    = var.aurora_cluster
    DatabaseInstance = var.database_instance
    LogGroup         = var.log_group
    PassableRoles    = var.passable_roles == null ? null : join(",", var.passable_roles)
    ArrivalsQueue    = var.arrivals_queue
    Storage          = var.storage
    DataStore        = var.data_store
    Workspace        = var.workspace
    Shared           = var.shared
    Backup           = var.backup
    ReplicationRole  = var.replication_role
    KmsKey           = var.kms_key
  }
  rules = [
    { holds = !((var.storage == null ? "new" : var.storage) == "adopted") || (!((var.data_store == null ? "" : var.data_store) == "") && !((var.workspace == null ? "" : var.workspace) == "") && !((var.shared == null ? "" : var.shared) == "")), message = "Where Storage is adopted, name DataStore, Workspace and Shared" },
  ]

  depends_on = [module.network, module.endpoints, module.storage, module.database, module.balancer, module.dagster-roles, module.dagster, module.frontend]
}

module "agent" {
  source = "../../modules/stack"
  count  = contains(var.stacks, "agent") ? 1 : 0

  name         = "${local.name}-agent"
  template     = "${path.module}/../../../cloudformation/child/agent.yaml"
  capabilities = []
  required     = ["LaName", "TrustPin", "CoreAccount"]
  parameters = {
    LaName           = var.la_name
    TrustPin         = var.trust_pin
    CoreAccount      = var.core_account
    AgentTag         = var.agent_tag
    AgentRepository  = var.agent_repository
    Capacity         = var.capacity
    Sleep            = var.sleep
    Bill             = var.bill
    Images           = var.images
    CoreReader       = var.core_reader
    MoreToml         = var.more_toml
    Database         = var.database
    Copies           = var.copies
    AlarmTopic       = var.alarm_topic
    Cluster          = var.cluster
    Webserver        = var.webserver
    Daemon           = var.daemon
    CodeServers      = var.code_servers == null ? null : join(",", var.code_servers)
    OtherServices    = var.other_services == null ? null : join(",", var.other_services)
    AuroraCluster    = var.aurora_cluster
    DatabaseInstance = var.database_instance
    ArrivalsQueue    = var.arrivals_queue
    Storage          = var.storage
    DataStore        = var.data_store
    Workspace        = var.workspace
    Shared           = var.shared
    Backup           = var.backup
    AccessLogs       = var.access_logs
    ReplicationRole  = var.replication_role
    KmsKey           = var.kms_key
  }
  rules = [
    { holds = !((var.storage == null ? "new" : var.storage) == "adopted") || (!((var.data_store == null ? "" : var.data_store) == "") && !((var.workspace == null ? "" : var.workspace) == "") && !((var.shared == null ? "" : var.shared) == "")), message = "Where Storage is adopted, name DataStore, Workspace and Shared" },
  ]

  depends_on = [module.network, module.endpoints, module.storage, module.database, module.balancer, module.dagster-roles, module.dagster, module.frontend, module.role]
}

output "stacks" {
  description = "The outputs of each stack; null of one that is not made."
  value = {
    network       = one(module.network[*].outputs)
    endpoints     = one(module.endpoints[*].outputs)
    storage       = one(module.storage[*].outputs)
    database      = one(module.database[*].outputs)
    balancer      = one(module.balancer[*].outputs)
    dagster-roles = one(module.dagster-roles[*].outputs)
    dagster       = one(module.dagster[*].outputs)
    frontend      = one(module.frontend[*].outputs)
    role          = one(module.role[*].outputs)
    agent         = one(module.agent[*].outputs)
  }
}
