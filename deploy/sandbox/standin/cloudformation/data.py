"""What holds data: S3, RDS and Aurora, EFS, Secrets Manager, Backup."""

import json
from collections import defaultdict

from .api import Failed
from .kinds import Made, kind


@kind("AWS::S3::Bucket")
def bucket(api, given, name):
    name = given.take("BucketName", name.lower()[-63:])
    locked = given.take("ObjectLockEnabled", False)
    api("s3", "CreateBucket", Bucket=name, ObjectLockEnabledForBucket=locked,
        CreateBucketConfiguration={"LocationConstraint": api.region})

    def put(operation, **configuration):
        api("s3", operation, Bucket=name, **configuration)

    def configure(now):
        ownership, encryption = now.take("OwnershipControls", None), now.take("BucketEncryption", None)
        versioning, block = now.take("VersioningConfiguration", None), now.take("PublicAccessBlockConfiguration", None)
        told, life, logged = (now.take(part, None) for part in (
            "NotificationConfiguration", "LifecycleConfiguration", "LoggingConfiguration"))
        retained, copied, tags = now.take("ObjectLockConfiguration", None), now.take("ReplicationConfiguration", None), now.tags()
        if tags:
            put("PutBucketTagging", Tagging={"TagSet": tags})
        if ownership:
            put("PutBucketOwnershipControls", OwnershipControls=ownership)
        if block:
            put("PutPublicAccessBlock", PublicAccessBlockConfiguration=block)
        if versioning:
            put("PutBucketVersioning", VersioningConfiguration=versioning)
        if encryption:
            put("PutBucketEncryption", ServerSideEncryptionConfiguration={"Rules": [
                encryption_rule(rule) for rule in encryption["ServerSideEncryptionConfiguration"]]})
        if life:
            put("PutBucketLifecycleConfiguration", LifecycleConfiguration={"Rules": [life_rule(rule) for rule in life["Rules"]]})
        if logged:
            put("PutBucketLogging", BucketLoggingStatus={"LoggingEnabled": {
                "TargetBucket": logged["DestinationBucketName"], "TargetPrefix": logged.get("LogFilePrefix", "")}})
        if told:
            put("PutBucketNotificationConfiguration", NotificationConfiguration=notification(told))
        if copied:
            put("PutBucketReplication", ReplicationConfiguration={"Role": copied["Role"], "Rules": [
                {"ID" if key == "Id" else key: value for key, value in rule.items()} for rule in copied["Rules"]]})
        if retained:
            put("PutObjectLockConfiguration", ObjectLockConfiguration=retained)

    configure(given)
    host = f"{name}.s3.{api.region}.amazonaws.com"

    def change(now):
        if now.take("BucketName", name) != name:
            raise Failed("another BucketName would be another bucket")
        now.take("ObjectLockEnabled", None)
        configure(now)
        return made

    made = Made(name, {"Arn": f"arn:aws:s3:::{name}", "DomainName": f"{name}.s3.amazonaws.com", "RegionalDomainName": host},
                lambda: api("s3", "DeleteBucket", Bucket=name), change)
    return made


def encryption_rule(rule):
    rule = dict(rule)
    by_default = rule.pop("ServerSideEncryptionByDefault", None)
    return {**rule, **({"ApplyServerSideEncryptionByDefault": by_default} if by_default else {})}


def life_rule(rule):
    rule = {"ID": rule.get("Id"), "Filter": {"Prefix": rule.get("Prefix", "")},
            **{name: value for name, value in rule.items() if name not in ("Id", "Prefix")}}
    if "ExpirationInDays" in rule:
        rule["Expiration"] = {"Days": rule.pop("ExpirationInDays")}
    if "ExpiredObjectDeleteMarker" in rule:
        rule["Expiration"] = {"ExpiredObjectDeleteMarker": rule.pop("ExpiredObjectDeleteMarker")}
    for one in [*rule.get("Transitions", []), *rule.get("NoncurrentVersionTransitions", [])]:
        if "TransitionInDays" in one:
            one["NoncurrentDays" if one in rule.get("NoncurrentVersionTransitions", []) else "Days"] = one.pop("TransitionInDays")
    return rule


def notification(told):
    told = dict(told)
    bridge = told.pop("EventBridgeConfiguration", None)
    wanted = bridge is not None and str(bridge.get("EventBridgeEnabled", True)).lower() == "true"
    return {**told, **({"EventBridgeConfiguration": {}} if wanted else {})}


@kind("AWS::S3::BucketPolicy")
def bucket_policy(api, given, name):
    bucket = given.take("Bucket")

    def put(now):
        now.take("Bucket", None)
        api("s3", "PutBucketPolicy", Bucket=bucket, Policy=now.take("PolicyDocument"))
        return made

    made = Made(bucket, {}, lambda: api("s3", "DeleteBucketPolicy", Bucket=bucket), put)
    return put(given)


@kind("AWS::RDS::DBSubnetGroup")
def subnet_group(api, given, name):
    name = given.take("DBSubnetGroupName", name).lower()
    api("rds", "CreateDBSubnetGroup", DBSubnetGroupName=name, Tags=given.tags(), **given.rest())
    return Made(name, {}, lambda: api("rds", "DeleteDBSubnetGroup", DBSubnetGroupName=name))


@kind("AWS::RDS::DBClusterParameterGroup")
def cluster_parameters(api, given, name):
    name, parameters = given.take("DBClusterParameterGroupName", name).lower(), given.take("Parameters", {})
    api("rds", "CreateDBClusterParameterGroup", DBClusterParameterGroupName=name, Tags=given.tags(),
        DBParameterGroupFamily=given.take("Family"), **given.pick("Description"))
    # moto has no values of a cluster's parameters to change; those of the template are in the template alone.
    return Made(name, {"Parameters": parameters},
                lambda: api("rds", "DeleteDBClusterParameterGroup", DBClusterParameterGroupName=name))


@kind("AWS::RDS::DBParameterGroup")
def parameters(api, given, name):
    name, parameters = given.take("DBParameterGroupName", name).lower(), given.take("Parameters", {})
    api("rds", "CreateDBParameterGroup", DBParameterGroupName=name, Tags=given.tags(),
        DBParameterGroupFamily=given.take("Family"), **given.pick("Description"))
    if parameters:
        api("rds", "ModifyDBParameterGroup", DBParameterGroupName=name, Parameters=[
            {"ParameterName": key, "ParameterValue": value, "ApplyMethod": "pending-reboot"} for key, value in parameters.items()])
    return Made(name, {}, lambda: api("rds", "DeleteDBParameterGroup", DBParameterGroupName=name))


def as_request(given):
    """What CloudFormation names otherwise than the requests of RDS."""
    given.take("DeleteAutomatedBackups", None)  # is said when it is deleted
    rest = given.rest()
    if "MasterUserSecret" in rest:
        rest["MasterUserSecretKmsKeyId"] = rest.pop("MasterUserSecret")["KmsKeyId"]
    if "PerformanceInsightsEnabled" in rest:
        rest["EnablePerformanceInsights"] = rest.pop("PerformanceInsightsEnabled")
    return rest


@kind("AWS::RDS::DBCluster")
def cluster(api, given, name):
    name = given.take("DBClusterIdentifier", name).lower()
    made = api("rds", "CreateDBCluster", DBClusterIdentifier=name, Tags=given.tags(), **as_request(given))["DBCluster"]

    def change(now):
        api("rds", "ModifyDBCluster", DBClusterIdentifier=name, ApplyImmediately=True, **now.pick(
            "ServerlessV2ScalingConfiguration", "BackupRetentionPeriod", "DeletionProtection", "EngineVersion"))
        now.rest()
        return resource

    def undo():
        api("rds", "ModifyDBCluster", DBClusterIdentifier=name, DeletionProtection=False)
        api("rds", "DeleteDBCluster", DBClusterIdentifier=name, SkipFinalSnapshot=True)

    secret = (made.get("MasterUserSecret") or {}).get("SecretArn")
    resource = Made(name, {
        "Endpoint.Address": made["Endpoint"], "Endpoint.Port": str(made["Port"]), "DBClusterArn": made["DBClusterArn"],
        "DBClusterResourceId": made["DbClusterResourceId"], "ReadEndpoint.Address": made["ReaderEndpoint"],
        **({"MasterUserSecret.SecretArn": secret} if secret else {})}, undo, change)
    return resource


@kind("AWS::RDS::DBInstance")
def instance(api, given, name):
    name = given.take("DBInstanceIdentifier", name).lower()
    groups = given.take("VPCSecurityGroups", None)
    made = api("rds", "CreateDBInstance", DBInstanceIdentifier=name, Tags=given.tags(), VpcSecurityGroupIds=groups,
               **as_request(given))["DBInstance"]
    secret = (made.get("MasterUserSecret") or {}).get("SecretArn")

    def undo():
        if "DBClusterIdentifier" not in made:
            api("rds", "ModifyDBInstance", DBInstanceIdentifier=name, DeletionProtection=False)
        api("rds", "DeleteDBInstance", DBInstanceIdentifier=name, SkipFinalSnapshot=True)

    return Made(name, {"Endpoint.Address": made["Endpoint"]["Address"], "Endpoint.Port": str(made["Endpoint"]["Port"]),
                       "DBInstanceArn": made["DBInstanceArn"], "DbiResourceId": made["DbiResourceId"],
                       **({"MasterUserSecret.SecretArn": secret} if secret else {})}, undo)


@kind("AWS::EFS::FileSystem")
def file_system(api, given, name):
    policy, life = given.take("FileSystemPolicy", None), given.take("LifecyclePolicies", None)
    backup = given.take("BackupPolicy", {"Status": "DISABLED"})["Status"] == "ENABLED"
    tags = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in given.take("FileSystemTags", [])]
    made = api("efs", "CreateFileSystem", CreationToken=name, Tags=tags, Backup=backup, **given.rest())
    id = made["FileSystemId"]
    if life:
        api("efs", "PutLifecycleConfiguration", FileSystemId=id, LifecyclePolicies=life)
    if policy:
        api("efs", "PutFileSystemPolicy", FileSystemId=id, Policy=policy)
    return Made(id, {"FileSystemId": id, "Arn": made["FileSystemArn"]},
                lambda: api("efs", "DeleteFileSystem", FileSystemId=id))


@kind("AWS::EFS::MountTarget")
def mount_target(api, given, name):
    id = api("efs", "CreateMountTarget", **given.rest())["MountTargetId"]
    return Made(id, {"Id": id}, lambda: api("efs", "DeleteMountTarget", MountTargetId=id))


@kind("AWS::EFS::AccessPoint")
def access_point(api, given, name):
    tags = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in given.take("AccessPointTags", [])]
    made = api("efs", "CreateAccessPoint", ClientToken=name, Tags=tags, **given.rest())
    return Made(made["AccessPointId"], {"AccessPointId": made["AccessPointId"], "Arn": made["AccessPointArn"]},
                lambda: api("efs", "DeleteAccessPoint", AccessPointId=made["AccessPointId"]))


@kind("AWS::SecretsManager::Secret")
def secret(api, given, name):
    generated, tags = given.take("GenerateSecretString", None), given.tags()
    if generated:
        template, key = generated.pop("SecretStringTemplate", None), generated.pop("GenerateStringKey", None)
        password = api("secretsmanager", "GetRandomPassword", **generated)["RandomPassword"]
        given.left["SecretString"] = json.dumps({**json.loads(template), key: password}) if key else password
    arn = api("secretsmanager", "CreateSecret", Name=given.take("Name", name), Tags=tags,
              **given.pick("SecretString", "Description", "KmsKeyId"))["ARN"]
    return Made(arn, {"Id": arn}, lambda: api("secretsmanager", "DeleteSecret", SecretId=arn, ForceDeleteWithoutRecovery=True))


@kind("AWS::SecretsManager::SecretTargetAttachment")
def secret_attachment(api, given, name):
    arn, kind, target = given.take("SecretId"), given.take("TargetType"), given.take("TargetId")
    if kind == "AWS::RDS::DBCluster":
        found = api("rds", "DescribeDBClusters", DBClusterIdentifier=target)["DBClusters"][0]
        place = {"host": found["Endpoint"], "port": found["Port"], "dbClusterIdentifier": target}
    else:
        found = api("rds", "DescribeDBInstances", DBInstanceIdentifier=target)["DBInstances"][0]
        place = {"host": found["Endpoint"]["Address"], "port": found["Endpoint"]["Port"], "dbInstanceIdentifier": target}
    had = json.loads(api("secretsmanager", "GetSecretValue", SecretId=arn)["SecretString"])
    api("secretsmanager", "PutSecretValue", SecretId=arn, SecretString=json.dumps({**had, "engine": "postgres", **place}))
    return Made(arn)


@kind("AWS::SecretsManager::ResourcePolicy")
def secret_policy(api, given, name):
    arn = given.take("SecretId")
    api("secretsmanager", "PutResourcePolicy", SecretId=arn, ResourcePolicy=given.take("ResourcePolicy"),
        **given.pick("BlockPublicPolicy"))
    return Made(arn, {}, lambda: api("secretsmanager", "DeleteResourcePolicy", SecretId=arn))


@kind("AWS::Backup::BackupVault")
def vault(api, given, name):
    name, locked = given.take("BackupVaultName", name), given.take("LockConfiguration", None)
    arn = api("backup", "CreateBackupVault", BackupVaultName=name, BackupVaultTags=given.take("BackupVaultTags", {}),
              **given.pick("EncryptionKeyArn"))["BackupVaultArn"]
    if locked:
        api("backup", "PutBackupVaultLockConfiguration", BackupVaultName=name, **locked)
    return Made(name, {"BackupVaultName": name, "BackupVaultArn": arn},
                lambda: api("backup", "DeleteBackupVault", BackupVaultName=name))


@kind("AWS::Backup::BackupPlan")
def plan(api, given, name):
    plan = given.take("BackupPlan")
    rules = plan.pop("BackupPlanRule")
    for rule in rules:
        rule["TargetBackupVaultName"] = rule.pop("TargetBackupVault")
    made = api("backup", "CreateBackupPlan", BackupPlan={**plan, "Rules": rules},
               BackupPlanTags=given.take("BackupPlanTags", {}))
    return Made(made["BackupPlanId"], {"BackupPlanId": made["BackupPlanId"], "BackupPlanArn": made["BackupPlanArn"]},
                lambda: api("backup", "DeleteBackupPlan", BackupPlanId=made["BackupPlanId"]))


selections = defaultdict(list)  # by account; moto's Backup has none


@kind("AWS::Backup::BackupSelection")
def selection(api, given, name):
    """Kept, and nothing more: what a plan selects is in no answer of moto's."""
    selections[api.account].append((given.take("BackupPlanId"), given.take("BackupSelection")))
    return Made(name)
