//! How an input becomes another one: bytes changed, cut, repeated and spliced; words of the format put in; fields of a
//! protobuf message changed with the lengths around them kept right, so that what is inside is reached.

use fastrand::Rng;

/// Longest input: what is longer is refused by its length everywhere, and only slows the search.
pub(super) const MOST: usize = 64 * 1024;
/// Numbers at which something changes.
const EDGES: [u64; 12] =
    [0, 1, 2, 127, 128, 255, 65_535, u32::MAX as u64, i32::MAX as u64, i64::MAX as u64, i64::MIN as u64, u64::MAX];
/// Messages within messages that are followed.
const DEPTH: usize = 8;

/// Another input, made of `bytes` and sometimes of `other`.
pub(super) fn mutated(rng: &mut Rng, bytes: &[u8], other: &[u8], words: &[&str]) -> Vec<u8> {
    let mut made = bytes.to_vec();
    for _ in 0..=rng.usize(..3) {
        made = match rng.u8(..10) {
            0..4 => message(rng, &made, DEPTH).unwrap_or_else(|| plain(rng, made, other, words)),
            _ => plain(rng, made, other, words),
        };
    }
    made.truncate(MOST);
    made
}

/// A place in it, or its end.
fn place(rng: &mut Rng, bytes: &[u8]) -> usize {
    rng.usize(..=bytes.len())
}

fn plain(rng: &mut Rng, mut bytes: Vec<u8>, other: &[u8], words: &[&str]) -> Vec<u8> {
    let at = place(rng, &bytes);
    match rng.u8(..11) {
        0 => bytes.truncate(at),
        1 | 2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        }
        3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.u8(..);
            }
        }
        4 => {
            let piece: Vec<u8> = (0..rng.usize(1..16)).map(|_| rng.u8(..)).collect();
            bytes.splice(at..at, piece);
        }
        5 => {
            let end = (at + rng.usize(1..64)).min(bytes.len());
            bytes.drain(at..end);
        }
        6 => {
            let end = (at + rng.usize(1..64)).min(bytes.len());
            let piece = bytes[at..end].repeat(rng.usize(1..8));
            bytes.splice(at..at, piece);
        }
        7 => {
            let from = place(rng, other);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        8 => {
            let number = *rng.choice(EDGES.iter()).unwrap_or(&0);
            let text = if rng.bool() { number.to_string() } else { (number as i64).to_string() };
            let end = (at + rng.usize(..8)).min(bytes.len());
            bytes.splice(at..end, text.into_bytes());
        }
        // Brackets in brackets: whoever reads by recursion must stop.
        9 if rng.u8(..16) == 0 => {
            let bracket = *rng.choice([b"[", b"(", b"{", b"!"].iter()).unwrap_or(&b"[");
            bytes.splice(at..at, bracket.repeat(rng.usize(1..8_000)));
        }
        _ => {
            if let Some(word) = rng.choice(words.iter()) {
                let end = if rng.bool() { at } else { (at + word.len()).min(bytes.len()) };
                bytes.splice(at..end, word.bytes());
            }
        }
    }
    bytes
}

/// One field of a message: its number and type, and its content with any length before it.
struct Field {
    tag: u64,
    content: Content,
}

enum Content {
    Number(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn fields(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let fixed = match tag & 7 {
            0 | 2 => 0,
            1 => 8,
            5 => 4,
            _ => return None,
        };
        let content = if tag & 7 == 0 {
            Content::Number(varint(&mut bytes)?)
        } else {
            let length = if fixed > 0 { fixed } else { usize::try_from(varint(&mut bytes)?).ok()? };
            let (content, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            if fixed > 0 { Content::Fixed(content.to_vec()) } else { Content::Bytes(content.to_vec()) }
        };
        all.push(Field { tag, content });
    }
    Some(all)
}

fn whole(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { tag, content } in fields {
        put_varint(&mut out, *tag);
        match content {
            Content::Number(value) => put_varint(&mut out, *value),
            Content::Fixed(bytes) => out.extend_from_slice(bytes),
            Content::Bytes(bytes) => {
                put_varint(&mut out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
        }
    }
    out
}

/// The message with one field changed, here or within; `None` where it is no message.
fn message(rng: &mut Rng, bytes: &[u8], depth: usize) -> Option<Vec<u8>> {
    let mut all = fields(bytes)?;
    let at = rng.usize(..all.len().max(1));
    let field = all.get_mut(at)?;
    match (rng.u8(..12), &mut field.content) {
        (0, _) => drop(all.remove(at)),
        (1, _) => {
            let twice = fields(&whole(&all[at..=at]))?;
            all.splice(at..at, twice);
        }
        (2, _) => {
            let to = rng.usize(..all.len());
            all.swap(at, to);
        }
        (3, _) => field.tag = field.tag & 7 | (rng.u64(1..40) << 3),
        (_, Content::Number(value)) if rng.bool() => *value = *rng.choice(EDGES.iter())?,
        (_, Content::Number(value)) => *value = rng.u64(..40),
        (_, Content::Fixed(bytes)) => bytes.iter_mut().for_each(|byte| *byte = rng.u8(..)),
        (_, Content::Bytes(inside)) => {
            let within = if depth > 0 && rng.u8(..4) > 0 { message(rng, inside, depth - 1) } else { None };
            let before = std::mem::take(inside);
            *inside = within.unwrap_or_else(|| plain(rng, before, &[], &["x"]));
        }
    }
    Some(whole(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_taken_apart_is_the_same_put_together() {
        let bytes = b"\x08\x96\x01\x12\x05hello\x1d\x01\x02\x03\x04";
        assert_eq!(whole(&fields(bytes).unwrap()), bytes);
        assert!(fields(b"\x12\x05hel").is_none());
    }

    #[test]
    fn whatever_is_changed_has_a_bound() {
        let mut rng = Rng::with_seed(1);
        let mut bytes = b"\x12\x05hello".to_vec();
        for _ in 0..20_000 {
            bytes = mutated(&mut rng, &bytes, b"other", &["word"]);
            assert!(bytes.len() <= MOST);
        }
    }
}
