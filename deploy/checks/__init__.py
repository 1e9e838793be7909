"""What has to hold of the templates, beyond what cfn-lint and checkov know; deploy/check runs each module here."""
