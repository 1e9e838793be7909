//! What the book keeps, forgets and has no room for.

use std::time::Duration;

use super::*;

const KNOWN: Duration = limits::ARRIVALS_KNOWN;

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

fn waits(name: &str, modified: i64) -> (ArrivalId, Waits) {
    let arrival = Arrival { key: name.into(), mark: "version 1".into(), size: 1, at: modified };
    (arrival.id("data"), Waits::new(arrival, at(modified)))
}

fn parks(name: &str) -> (ArrivalId, Parks) {
    (ArrivalId::of(&[name.as_bytes()]), Parks { detail: name.into(), ..Parks::default() })
}

#[tokio::test]
async fn what_was_handed_on_is_known_for_two_weeks_and_forgotten_then() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).unwrap();
    let [first, second, third] = ["a", "b", "c"].map(|name| waits(name, 1));
    for one in [&first, &second, &third] {
        book.take_in(vec![one.clone()], vec![]).await.unwrap();
    }
    book.handed_on(vec![first.0], at(1000)).await.unwrap();
    book.handed_on(vec![second.0], at(2000) + KNOWN - Duration::from_secs(2)).await.unwrap();
    assert!(book.look(|state| state.knows(&first.0)), "not yet");
    book.handed_on(vec![third.0], at(1000) + KNOWN).await.unwrap();
    assert!(book.look(|state| !state.knows(&first.0) && state.knows(&second.0) && state.knows(&third.0)));
    drop(book);
    let book = Book::open(folder.path()).unwrap();
    assert!(book.look(|state| !state.knows(&first.0) && state.has_settled(&third.0) && state.waiting.is_empty()));
    assert_eq!(book.look(|state| state.last), Some((at(1000) + KNOWN).as_millisecond()));
}

#[tokio::test]
async fn what_a_listing_would_take_for_new_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).unwrap();
    let (old, young) = (waits("old", 1), waits("young", 1_000_000_000));
    book.take_in(vec![old.clone(), young.clone()], vec![]).await.unwrap();
    book.listed(1_000_000_500, 0).await.unwrap(); // all that is under eight days old is looked at again
    book.handed_on(vec![old.0, young.0], at(2)).await.unwrap();
    let later = waits("later", 1);
    book.take_in(vec![later.clone()], vec![]).await.unwrap();
    book.handed_on(vec![later.0], at(3) + KNOWN).await.unwrap();
    assert!(book.look(|state| state.knows(&young.0)));
}

#[tokio::test]
async fn what_finds_no_room_among_the_parked_keeps_nothing_else_out() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).unwrap();
    let many = (0..limits::ARRIVALS_PARKED).map(|number| parks(&number.to_string())).collect();
    assert_eq!(book.take_in(vec![], many).await.unwrap(), Taken::All);
    let both = (vec![waits("a", 1)], vec![parks("more")]);
    assert_eq!(book.take_in(both.0, both.1).await.unwrap(), Taken::ParkFull(1));
    assert_eq!(book.seen().borrow().count, 1);
    let mut room = book.look(Room::of);
    assert!(!room.take(Taken::ParkFull(1)) && room.take(Taken::Full(limits::ARRIVALS_WAITING - 1)));
    assert!(!room.take(Taken::Full(1)), "one place is not given to two messages");
    assert_eq!(book.take_in(vec![waits("a", 1)], vec![parks("7")]).await.unwrap(), Taken::All, "it is parked already");
    assert!(!book.refused(vec![waits("a", 1).0], "no".into(), at(1)).await.unwrap(), "it waits on");
    let many = (0..limits::ARRIVALS_WAITING).map(|number| waits(&number.to_string(), 1)).collect();
    assert_eq!(book.take_in(many, vec![]).await.unwrap(), Taken::Full(limits::ARRIVALS_WAITING));
    assert_eq!(book.seen().borrow().count, 1);
}

#[tokio::test]
async fn what_is_dropped_or_replaced_is_known_when_its_message_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(folder.path()).unwrap();
    let (odd, other, wait) = (parks("odd"), parks("other"), waits("a", 1));
    book.take_in(vec![wait.clone()], vec![odd.clone(), other.clone()]).await.unwrap();
    book.drop(odd.0, at(1)).await.unwrap();
    book.drop(wait.0, at(1)).await.unwrap();
    let found = waits("b", 1);
    assert_eq!(book.replace(other.0, vec![found.clone()], vec![], at(1)).await.unwrap(), Taken::All);
    book.take_in(vec![wait.clone()], vec![odd, other]).await.unwrap();
    assert!(book.look(|state| state.parked.is_empty() && state.waiting.len() == 1));
    assert!(book.look(|state| state.waiting.contains_key(&found.0)));
    assert_eq!(book.look(|state| state.last), None, "none of it was handed on");
}

#[tokio::test]
async fn a_damaged_book_is_told_and_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    disk.database.db.insert(b"x/no id", b"what").unwrap();
    drop(disk);
    let error = Book::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }));
    assert!(error.to_string().contains("without one, all that is in the bucket then counts as seen"), "{error}");
}
