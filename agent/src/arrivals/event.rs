//! What a message of the queue says: the events of S3's own notifications, of EventBridge, and of either through SNS.
//!
//! Pure. A message may hold several records, and each is judged by itself: one that is no arrival of a file in this LA's data
//! store never keeps another from being handed on. Whatever stands in a message, reading it ends and tells something.

use jiff::Timestamp;
use serde_json::Value;
use sfdata_common::{command::ArrivalId, limits};
use sfdata_proto::v1::ParkReason;

/// S3 user guide, "Event message structure": both are a few dozen characters; what is far longer is none.
const MARK_BYTES: usize = 1024;

/// Where files arrive.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The data store.
    pub(super) bucket: String,
    pub(super) region: String,
    /// Empty until it is known.
    pub(super) account: String,
}

/// A version of a file that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) key: String,
    /// Tells this version from others of its key: S3's version id; without versioning the ETag and the sequencer.
    pub(super) mark: String,
    pub(super) size: u64,
    /// When S3 had it, in milliseconds.
    pub(super) at: i64,
}

impl Arrival {
    /// The same for every message that tells of the same version.
    pub(super) fn id(&self, bucket: &str) -> ArrivalId {
        ArrivalId::of(&[bucket.as_bytes(), self.key.as_bytes(), self.mark.as_bytes()])
    }
}

/// What one record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Arrival(Arrival),
    /// For a person to look at: why, in words that hold nothing of the message, and the record.
    Odd(ParkReason, &'static str, String),
}

/// A record that is told of, a record that is of no interest, or what is wrong with it.
type Read = Result<Option<Arrival>, (ParkReason, &'static str)>;

/// Reads a record of one shape.
type Reader = fn(&Value, &Place, Timestamp) -> Read;

/// The records of a message that matter. S3's test of the queue, and events that are no arrival, are none.
pub(super) fn read(body: &str, place: &Place, now: Timestamp) -> Vec<Record> {
    within(body, place, now, true)
}

/// `whole`: not in an envelope of SNS, of which there is one at most.
fn within(body: &str, place: &Place, now: Timestamp, whole: bool) -> Vec<Record> {
    let odd = |(reason, why)| vec![Record::Odd(reason, why, body.to_owned())];
    let Ok(message) = serde_json::from_str::<Value>(body) else { return odd(unreadable("it is no JSON")) };
    let (records, read): (&[Value], Reader) = match &message {
        Value::Object(fields) if fields.contains_key("detail-type") => {
            (std::slice::from_ref(&message), of_event_bridge)
        }
        Value::Object(fields) => match (fields.get("Records"), fields.get("Message")) {
            (Some(Value::Array(records)), _) => (records, of_notification),
            (None, Some(Value::String(inner)))
                if whole && fields.get("Type").and_then(Value::as_str) == Some("Notification") =>
            {
                return within(inner, place, now, false);
            }
            (None, None) if fields.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") => return Vec::new(),
            _ => return odd(unreadable(NEITHER)),
        },
        _ => return odd(unreadable(NEITHER)),
    };
    let each = records.iter().filter_map(|record| match read(record, place, now) {
        Ok(arrival) => arrival.map(Record::Arrival),
        Err((reason, why)) => Some(Record::Odd(reason, why, as_message(record, &message))),
    });
    each.collect()
}

/// A record as a message of its own, so that it can be read again.
fn as_message(record: &Value, message: &Value) -> String {
    if record == message { record.to_string() } else { format!("{{\"Records\":[{record}]}}") }
}

const NEITHER: &str = "it is neither a notification of S3 nor an event of EventBridge";

fn unreadable(why: &'static str) -> (ParkReason, &'static str) {
    (ParkReason::Unreadable, why)
}

fn foreign(why: &'static str) -> (ParkReason, &'static str) {
    (ParkReason::Foreign, why)
}

/// S3 user guide, "Event message structure".
fn of_notification(record: &Value, place: &Place, now: Timestamp) -> Read {
    if text(record, "/eventSource") != Some("aws:s3") {
        return Err(unreadable("a record of it is not of S3"));
    }
    let name = text(record, "/eventName").ok_or(unreadable("a record of it has no eventName"))?;
    if !name.trim_start_matches("s3:").starts_with("ObjectCreated:") {
        return Ok(None);
    }
    of_here(place, text(record, "/s3/bucket/name"), text(record, "/awsRegion"), None)?;
    let key = text(record, "/s3/object/key").ok_or(unreadable("a record of it has no key"))?;
    let key = decoded(key).ok_or(unreadable("its key is not URL-encoded UTF-8"))?;
    let object = record.pointer("/s3/object").unwrap_or(&Value::Null);
    arrival(key, object, ["/versionId", "/eTag"], text(record, "/eventTime"), now)
}

/// EventBridge user guide, "Amazon S3 events"; its keys are not encoded.
fn of_event_bridge(event: &Value, place: &Place, now: Timestamp) -> Read {
    if text(event, "/source") != Some("aws.s3") {
        return Err(unreadable("it is not of S3"));
    }
    if text(event, "/detail-type") != Some("Object Created") {
        return Ok(None);
    }
    of_here(place, text(event, "/detail/bucket/name"), text(event, "/region"), text(event, "/account"))?;
    let key = text(event, "/detail/object/key").ok_or(unreadable("it has no key"))?;
    let object = event.pointer("/detail/object").unwrap_or(&Value::Null);
    arrival(key.to_owned(), object, ["/version-id", "/etag"], text(event, "/time"), now)
}

fn of_here(
    place: &Place,
    bucket: Option<&str>,
    region: Option<&str>,
    account: Option<&str>,
) -> Result<(), (ParkReason, &'static str)> {
    if bucket.ok_or(unreadable("it names no bucket"))? != place.bucket {
        return Err(foreign("it tells of another bucket than platform.buckets.data_store"));
    }
    if region.is_some_and(|region| region != place.region) {
        return Err(foreign("it tells of another region"));
    }
    if account.is_some_and(|account| account != place.account) {
        return Err(foreign("it tells of another account"));
    }
    Ok(())
}

fn arrival(key: String, object: &Value, [version, tag]: [&str; 2], at: Option<&str>, now: Timestamp) -> Read {
    if key.is_empty() || key.len() > limits::OBJECT_KEY_BYTES {
        return Err(unreadable("its key is empty, or longer than S3 allows"));
    }
    let size = object.pointer("/size").and_then(Value::as_u64).unwrap_or_default();
    if size == 0 && key.ends_with('/') {
        return Ok(None); // what consoles make for a folder
    }
    let version = text(object, version).filter(|version| !version.is_empty() && *version != "null");
    let mark = match version {
        Some(version) => format!("version {version}"),
        // EventBridge and moto spell it in one way and another.
        None => match text(object, tag).or(text(object, "/eTag")) {
            Some(tag) => format!("{} {}", tag.trim_matches('"'), text(object, "/sequencer").unwrap_or_default()),
            None => return Err(unreadable("it has neither a version nor an ETag")),
        },
    };
    if mark.len() > MARK_BYTES {
        return Err(unreadable("its version is longer than any of S3's"));
    }
    let at = at.and_then(|at| at.parse::<Timestamp>().ok()).unwrap_or(now);
    Ok(Some(Arrival { key, mark, size, at: at.as_millisecond() }))
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// `application/x-www-form-urlencoded`, as S3 writes keys in its notifications.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests;
