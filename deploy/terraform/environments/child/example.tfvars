# What has to be told; everything else has a default in the templates. Copy this to terraform.tfvars and change it.
la_name      = "camden"
core_account = "111111111111"
# HubService among the outputs of the core account's network; for an own network.
hub_service = "com.amazonaws.vpce.eu-west-2.vpce-svc-0123456789abcdef0"
# TRUST_DOMAIN/CA_PIN/ROOT_PIN as hubctl agents register prints them.
trust_pin = "sfdata.region.example/0000000000000000000000000000000000000000000000000000000000000000/0000000000000000000000000000000000000000000000000000000000000000"
