"""What is told and to whom: logs, alarms, topics, queues, rules of events."""

from .kinds import Made, kind


@kind("AWS::Logs::LogGroup")
def log_group(api, given, name):
    name, days = given.take("LogGroupName", name), given.take("RetentionInDays", None)
    protected = given.take("DeletionProtectionEnabled", None)
    api("logs", "CreateLogGroup", logGroupName=name, tags={tag["Key"]: tag["Value"] for tag in given.tags()},
        **given.pick("KmsKeyId", "LogGroupClass"), **({} if protected is None else {"deletionProtectionEnabled": protected}))
    if days is not None:
        api("logs", "PutRetentionPolicy", logGroupName=name, retentionInDays=days)
    return Made(name, {"Arn": f"arn:aws:logs:{api.region}:{api.account}:log-group:{name}:*"},
                lambda: api("logs", "DeleteLogGroup", logGroupName=name))


@kind("AWS::Logs::MetricFilter")
def metric_filter(api, given, name):
    name, group = given.take("FilterName", name), given.take("LogGroupName")
    api("logs", "PutMetricFilter", filterName=name, logGroupName=group,
        **given.pick("FilterPattern", "MetricTransformations"))
    return Made(name, {}, lambda: api("logs", "DeleteMetricFilter", filterName=name, logGroupName=group))


@kind("AWS::CloudWatch::Alarm")
def alarm(api, given, name):
    name, tags = given.take("AlarmName", name), given.tags()
    api("cloudwatch", "PutMetricAlarm", AlarmName=name, Tags=tags, **given.rest())
    return Made(name, {"Arn": f"arn:aws:cloudwatch:{api.region}:{api.account}:alarm:{name}"},
                lambda: api("cloudwatch", "DeleteAlarms", AlarmNames=[name]))


@kind("AWS::SNS::Topic")
def topic(api, given, name):
    name, subscriptions = given.take("TopicName", name), given.take("Subscription", [])
    tags = given.tags()
    arn = api("sns", "CreateTopic", Name=name, Tags=tags, Attributes=given.pick(
        "DisplayName", "KmsMasterKeyId", "SignatureVersion", "TracingConfig"))["TopicArn"]
    for one in subscriptions:
        api("sns", "Subscribe", TopicArn=arn, **one)
    return Made(arn, {"TopicArn": arn, "TopicName": name}, lambda: api("sns", "DeleteTopic", TopicArn=arn))


@kind("AWS::SNS::Subscription")
def subscription(api, given, name):
    arn = api("sns", "Subscribe", ReturnSubscriptionArn=True, **given.pick("TopicArn", "Protocol", "Endpoint"))["SubscriptionArn"]
    return Made(arn, {"Arn": arn}, lambda: api("sns", "Unsubscribe", SubscriptionArn=arn))


@kind("AWS::SNS::TopicPolicy")
def topic_policy(api, given, name):
    document = given.take("PolicyDocument")
    for arn in given.take("Topics"):
        api("sns", "SetTopicAttributes", TopicArn=arn, AttributeName="Policy", AttributeValue=document)
    return Made(name)


@kind("AWS::SQS::Queue")
def queue(api, given, name):
    name, tags = given.take("QueueName", name), given.tags()
    url = api("sqs", "CreateQueue", QueueName=name, tags={tag["Key"]: tag["Value"] for tag in tags},
              Attributes=given.rest())["QueueUrl"]

    def change(now):
        now.pick("QueueName", "Tags")
        api("sqs", "SetQueueAttributes", QueueUrl=url, Attributes=now.rest())
        return made

    made = Made(url, {"Arn": f"arn:aws:sqs:{api.region}:{api.account}:{name}", "QueueName": name, "QueueUrl": url},
                lambda: api("sqs", "DeleteQueue", QueueUrl=url), change)
    return made


@kind("AWS::SQS::QueuePolicy")
def queue_policy(api, given, name):
    document = given.take("PolicyDocument")
    for url in given.take("Queues"):
        api("sqs", "SetQueueAttributes", QueueUrl=url, Attributes={"Policy": document})
    return Made(name)


@kind("AWS::Events::Rule")
def rule(api, given, name):
    name, targets = given.take("Name", name), given.take("Targets", [])
    bus = given.pick("EventBusName")
    arn = api("events", "PutRule", Name=name, Tags=given.tags(), **bus, **given.pick(
        "Description", "EventPattern", "ScheduleExpression", "State", "RoleArn"))["RuleArn"]
    if targets:
        api("events", "PutTargets", Rule=name, Targets=targets, **bus)

    def undo():
        if targets:
            api("events", "RemoveTargets", Rule=name, Ids=[target["Id"] for target in targets], **bus)
        api("events", "DeleteRule", Name=name, **bus)

    return Made(name, {"Arn": arn}, undo)


@kind("AWS::SSM::Parameter")
def parameter(api, given, name):
    name = given.take("Name", name)
    tags = [{"Key": key, "Value": value} for key, value in given.take("Tags", {}).items()]
    given = given.pick("Type", "Value", "Description", "Tier", "AllowedPattern")
    api("ssm", "PutParameter", Name=name, Tags=tags, **given)
    return Made(name, {"Type": given["Type"], "Value": given["Value"]}, lambda: api("ssm", "DeleteParameter", Name=name))
