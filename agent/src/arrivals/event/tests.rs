//! Messages of many shapes, ours and others', and what is read in them.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn place() -> Place {
    Place { bucket: "data".into(), region: "eu-west-2".into(), account: "222222222222".into() }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn read(message: &Value) -> Vec<Record> {
    super::read(&message.to_string(), &place(), now())
}

/// S3 user guide, "Event message structure", shortened.
fn record(key: &str) -> Value {
    json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-2",
        "eventTime": "2024-05-01T10:00:00.000Z", "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0", "bucket": {"name": "data", "arn": "arn:aws:s3:::data"},
            "object": {"key": key, "size": 10, "eTag": "e", "versionId": "v1", "sequencer": "0055AED6DCD90281E5"},
        },
    })
}

fn notification(change: impl Fn(&mut Value)) -> Value {
    let mut record = record("a/b.csv");
    change(&mut record);
    json!({ "Records": [record] })
}

/// EventBridge user guide, "Amazon S3 events", shortened.
fn event(change: impl Fn(&mut Value)) -> Value {
    let mut event = json!({
        "version": "0", "id": "1", "detail-type": "Object Created", "source": "aws.s3", "account": "222222222222",
        "time": "2024-05-01T10:00:00Z", "region": "eu-west-2", "resources": ["arn:aws:s3:::data"],
        "detail": {
            "version": "0", "bucket": {"name": "data"}, "reason": "PutObject",
            "object": {"key": "a/b.csv", "size": 10, "etag": "e", "version-id": "v1", "sequencer": "0055AED6DCD90281E5"},
        },
    });
    change(&mut event);
    event
}

fn found(message: &Value) -> Arrival {
    match &read(message)[..] {
        [Record::Arrival(arrival)] => arrival.clone(),
        other => panic!("{message}: {other:?}"),
    }
}

fn reason(message: &Value) -> ParkReason {
    match &read(message)[..] {
        [Record::Odd(reason, why, _)] => {
            assert!(!why.is_empty());
            *reason
        }
        other => panic!("{message}: {other:?}"),
    }
}

#[test]
fn a_version_is_one_arrival_by_whichever_way_it_is_told() {
    let by_s3 = found(&notification(|_| {}));
    assert_eq!(by_s3, found(&event(|_| {})));
    assert_eq!((by_s3.key.as_str(), by_s3.size, by_s3.mark.as_str()), ("a/b.csv", 10, "version v1"));
    assert_eq!(by_s3.at, "2024-05-01T10:00:00Z".parse::<Timestamp>().unwrap().as_millisecond());
    let enveloped = json!({"Type": "Notification", "MessageId": "m", "Message": notification(|_| {}).to_string()});
    assert_eq!(found(&enveloped), by_s3);
    let later = found(&notification(|record| record["eventTime"] = "2024-06-01T10:00:00Z".into()));
    assert_eq!(later.id("data"), by_s3.id("data"), "told twice");
    assert_ne!(by_s3.id("data"), by_s3.id("other"));
    let version = |id: Value| found(&notification(|record| record["s3"]["object"]["versionId"] = id.clone()));
    assert_ne!(version("v2".into()).id("data"), by_s3.id("data"));
    // Without versioning it is the contents and when they were written.
    assert_eq!(version(Value::Null), version("null".into()));
    assert_eq!(version(Value::Null).mark, "e 0055AED6DCD90281E5");
    let unversioned = event(|event| {
        event["detail"]["object"].as_object_mut().unwrap().remove("version-id");
    });
    assert_eq!(found(&unversioned), version("".into()));
}

#[test]
fn keys_are_decoded_as_each_way_encodes_them() {
    let by_s3 = |key: &str| found(&notification(|record| record["s3"]["object"]["key"] = key.into())).key;
    assert_eq!(by_s3("a%2Fb+c%2B%25.csv"), "a/b c+%.csv");
    assert_eq!(by_s3("a/%E2%82%AC%22.csv"), "a/€\".csv");
    assert_eq!(by_s3("Message"), "Message");
    let by_event = |key: &str| found(&event(|event| event["detail"]["object"]["key"] = key.into())).key;
    assert_eq!(by_event("a+b%2F €.csv"), "a+b%2F €.csv");
    let longest = "k".repeat(1024);
    assert_eq!(by_s3(&longest), longest);
    for illegal in ["", "%", "%2", "%zz", "%ff", "%+1", &"k".repeat(1025)] {
        let message = notification(|record| record["s3"]["object"]["key"] = illegal.into());
        assert_eq!(reason(&message), ParkReason::Unreadable, "{illegal}");
    }
}

#[test]
fn what_is_no_arrival_is_nothing() {
    for nothing in [
        json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "data"}),
        json!({"Records": []}),
        notification(|record| record["eventName"] = "ObjectRemoved:Delete".into()),
        notification(|record| record["eventName"] = "s3:ObjectTagging:Put".into()),
        notification(|record| {
            record["s3"]["object"]["key"] = "a/".into();
            record["s3"]["object"]["size"] = 0.into();
        }),
        event(|event| event["detail-type"] = "Object Deleted".into()),
    ] {
        assert_eq!(read(&nothing), [], "{nothing}");
    }
    let full = notification(|record| record["s3"]["object"]["key"] = "a/".into());
    assert_eq!(found(&full).key, "a/", "it has contents");
    assert_eq!(found(&notification(|record| record["eventName"] = "s3:ObjectCreated:Copy".into())).key, "a/b.csv");
}

#[test]
fn what_is_not_ours_or_not_understood_is_told_apart() {
    use ParkReason::{Foreign, Unreadable};
    for (message, expected) in [
        (notification(|record| record["s3"]["bucket"]["name"] = "other".into()), Foreign),
        (notification(|record| record["awsRegion"] = "us-east-1".into()), Foreign),
        (event(|event| event["account"] = "111111111111".into()), Foreign),
        (event(|event| event["region"] = "us-east-1".into()), Foreign),
        (event(|event| event["detail"]["bucket"]["name"] = "other".into()), Foreign),
        (event(|event| event["source"] = "my.own".into()), Unreadable),
        (event(|event| event["detail"] = Value::Null), Unreadable),
        (event(|event| event["detail"]["object"]["key"] = 7.into()), Unreadable),
        (notification(|record| record["eventSource"] = "aws:sns".into()), Unreadable),
        (notification(|record| record["s3"] = json!([])), Unreadable),
        (notification(|record| record["s3"]["object"] = json!({"key": "a"})), Unreadable),
        (notification(|record| record["s3"]["object"]["versionId"] = "v".repeat(2000).into()), Unreadable),
        (notification(|record| *record = json!("text")), Unreadable),
        (json!({"Records": {}}), Unreadable),
        (json!({"Records": [[]]}), Unreadable),
        (json!({"Type": "Notification", "Message": "no json"}), Unreadable),
        (json!([]), Unreadable),
        (json!(null), Unreadable),
    ] {
        assert_eq!(reason(&message), expected, "{message}");
    }
    let nested = json!({"Type": "Notification", "Message": notification(|_| {}).to_string()});
    let nested = json!({"Type": "Notification", "Message": nested.to_string()});
    assert_eq!(reason(&nested), Unreadable, "one envelope");
    for body in ["", "{", "\u{0}", "[[[[", &"[".repeat(100_000), r#"{"Records":[{"s3":1e999}]}"#] {
        assert!(matches!(&super::read(body, &place(), now())[..], [Record::Odd(Unreadable, ..)]), "{body:.20}");
    }
}

#[test]
fn of_several_records_each_is_judged_by_itself() {
    let mut foreign = record("x");
    foreign["s3"]["bucket"]["name"] = "other".into();
    let message = json!({"Records": [record("a"), foreign, record("b")]});
    let records = read(&message);
    let [Record::Arrival(a), Record::Odd(ParkReason::Foreign, _, body), Record::Arrival(b)] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!((a.key.as_str(), b.key.as_str()), ("a", "b"));
    assert!(body.contains("other") && !body.contains("\"key\":\"a\""));
    // What was parked of it can be read again, where its bucket is the one.
    let there = Place { bucket: "other".into(), ..place() };
    let again = super::read(body, &there, now());
    assert!(matches!(&again[..], [Record::Arrival(arrival)] if arrival.key == "x"), "{again:?}");
    assert!(matches!(&super::read(body, &place(), now())[..], [Record::Odd(_, _, same)] if same == body));
}

proptest! {
    #[test]
    fn anything_is_read_to_an_end(body in ".{0,200}", key in ".{1,40}") {
        let _ = super::read(&body, &place(), now());
        let event = event(|event| event["detail"]["object"]["key"] = key.as_str().into());
        prop_assert_eq!(found(&event).key, key);
    }
}
