//! Looking into messages and changing them, by the descriptors that they carry. A place is a path of fields, as `receipt.payload`.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage as _, Value};

/// How a field is told that is a choice among others.
pub(super) fn choice(field: &FieldDescriptor) -> Option<String> {
    field.containing_oneof().filter(|oneof| !oneof.is_synthetic())?;
    Some(format!("{}.{}", field.parent_message().name(), field.name()))
}

/// What is chosen in a message, wherever it has a choice.
pub(super) fn choices(message: &DynamicMessage) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    visit(message, &mut |field, _| found.extend(choice(field)));
    found
}

/// Choices, and the words of enumerations.
pub fn essence(message: &DynamicMessage) -> BTreeSet<String> {
    let mut found = choices(message);
    visit(message, &mut |field, value| {
        if let Value::EnumNumber(number) = value {
            found.insert(format!("{} {number}", field.full_name()));
        }
    });
    found
}

/// The fields that are set in a message itself.
pub fn fields(message: &DynamicMessage) -> BTreeSet<String> {
    message.fields().map(|(field, _)| field.name().to_owned()).collect()
}

/// The places of envelopes, and the types of what they hold.
pub(super) fn envelopes(message: &DynamicMessage) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (field, value) in message.fields() {
        let Value::Message(inner) = value else { continue };
        if inner.descriptor().name() == "Envelope" {
            found.push((field.name().to_owned(), text(inner, "payload_type").to_owned()));
        } else {
            found.extend(envelopes(inner).into_iter().map(|(place, kind)| (format!("{}.{place}", field.name()), kind)));
        }
    }
    found
}

fn visit(message: &DynamicMessage, look: &mut impl FnMut(&FieldDescriptor, &Value)) {
    for (field, value) in message.fields() {
        for value in value.as_list().unwrap_or(std::slice::from_ref(value)) {
            look(&field, value);
            if let Value::Message(inner) = value {
                visit(inner, look);
            }
        }
    }
}

pub(super) fn walk(message: &mut DynamicMessage, change: &mut impl FnMut(&FieldDescriptor, &mut Value)) {
    for (field, value) in message.fields_mut() {
        let values = match value {
            Value::List(values) => values.as_mut_slice(),
            value => std::slice::from_mut(value),
        };
        for value in values {
            match value {
                Value::Message(inner) => walk(inner, change),
                value => change(&field, value),
            }
        }
    }
}

pub(super) fn is_known(message: &DynamicMessage) -> bool {
    let mut known = message.unknown_fields().next().is_none();
    visit(message, &mut |_, value| {
        known &= value.as_message().is_none_or(|inner| inner.unknown_fields().next().is_none());
    });
    known
}

/// What is set at `place`, as in `receipt.payload_type`.
pub fn get<'a>(message: &'a DynamicMessage, place: &str) -> Option<&'a Value> {
    let (name, rest) = place.split_once('.').map_or((place, None), |(name, rest)| (name, Some(rest)));
    let value = message.fields().find(|(field, _)| field.name() == name)?.1;
    match rest {
        Some(rest) => get(value.as_message()?, rest),
        None => Some(value),
    }
}

/// The text at `place`; empty where none is set.
pub fn text<'a>(message: &'a DynamicMessage, place: &str) -> &'a str {
    get(message, place).and_then(Value::as_str).unwrap_or_default()
}

/// The number at `place`; 0 where none is set.
pub fn number(message: &DynamicMessage, place: &str) -> u64 {
    let value = get(message, place);
    value.and_then(|value| value.as_u64().or_else(|| value.as_u32().map(u64::from))).unwrap_or_default()
}

/// The bytes at `place`; none where none are set.
pub fn blob(message: &DynamicMessage, place: &str) -> Bytes {
    get(message, place).and_then(Value::as_bytes).cloned().unwrap_or_default()
}

/// The list at `place`, of bytes.
pub fn blobs(message: &DynamicMessage, place: &str) -> Vec<Bytes> {
    let list = get(message, place).and_then(Value::as_list).unwrap_or_default();
    list.iter().filter_map(Value::as_bytes).cloned().collect()
}

/// The message at `place`, made where there is none.
pub(super) fn inside<'a>(message: &'a mut DynamicMessage, place: &str) -> &'a mut DynamicMessage {
    place.split('.').fold(message, |message, name| {
        let value = message.get_field_by_name_mut(name).unwrap_or_else(|| panic!("no field {name}"));
        value.as_message_mut().unwrap_or_else(|| panic!("no message at {name}"))
    })
}

/// Set what stands at `place`.
pub fn set(message: &mut DynamicMessage, place: &str, value: Value) {
    match place.rsplit_once('.') {
        Some((place, name)) => inside(message, place).set_field_by_name(name, value),
        None => message.set_field_by_name(place, value),
    }
}
