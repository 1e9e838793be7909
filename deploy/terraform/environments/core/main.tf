# The core account: repositories of images, network, hub; and on demand the agents' stacks of an organisational unit.
# stacks.tf and variables.tf are written by deploy/terraform/generate.py out of the templates.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

provider "aws" {
  region              = var.region
  allowed_account_ids = var.account == null ? null : [var.account]
}

variable "region" {
  type        = string
  description = "The AWS region."
  default     = "eu-west-2"
}

variable "account" {
  type        = string
  description = "Number of the account that this is for; with it no other one is touched, whatever credentials are in use."
  default     = null
}
