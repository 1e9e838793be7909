# What has to be told; everything else has a default in the templates. Copy this to terraform.tfvars and change it.
organization_id = "o-a1b2c3d4e5"
trust_domain    = "sfdata.region.example"
hub_image       = "111111111111.dkr.ecr.eu-west-2.amazonaws.com/sfdata/hub:0.1.0"
