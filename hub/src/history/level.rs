//! Spans of time that history is kept by, each counted in UTC since the Unix epoch: five minutes, hours, days. Pure.

use std::{ops::Range, time::Duration};

use sfdata_common::limits;
use sfdata_proto::v1::HistoryStep;

use crate::store::keys;

/// How fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Five minutes.
    Slot,
    /// An hour, summed up from its slots.
    Hour,
    /// A day, summed up from its hours.
    Day,
}

impl Level {
    /// All, the finest first.
    pub const ALL: [Self; 3] = [Self::Slot, Self::Hour, Self::Day];

    /// How long one span is.
    pub const fn seconds(self) -> u32 {
        match self {
            Self::Slot => 300,
            Self::Hour => 3600,
            Self::Day => 24 * 3600,
        }
    }

    /// For how long it is kept.
    pub fn kept(self) -> Duration {
        match self {
            Self::Slot => limits::HISTORY_SLOTS_KEPT,
            Self::Hour => limits::HISTORY_HOURS_KEPT,
            Self::Day => limits::HISTORY_DAYS_KEPT,
        }
    }

    /// What its records' keys begin with.
    pub fn kind(self) -> &'static [u8] {
        match self {
            Self::Slot => keys::HISTORY_SLOTS,
            Self::Hour => keys::HISTORY_HOURS,
            Self::Day => keys::HISTORY_DAYS,
        }
    }

    /// As the wire has it.
    pub fn step(self) -> HistoryStep {
        match self {
            Self::Slot => HistoryStep::FiveMinutes,
            Self::Hour => HistoryStep::Hour,
            Self::Day => HistoryStep::Day,
        }
    }

    /// The level of that step; without one the finest that is kept for so long.
    pub fn of(step: HistoryStep, back: Duration) -> Self {
        let named = Self::ALL.into_iter().find(|level| level.step() == step);
        let fine = || Self::ALL.into_iter().find(|level| back <= level.kept());
        named.or_else(fine).unwrap_or(Self::Day)
    }

    /// The span that this second is in.
    pub fn at(self, second: i64) -> u32 {
        second.div_euclid(self.seconds().into()).clamp(0, u32::MAX.into()).try_into().unwrap_or_default()
    }

    /// When a span begins, in seconds since the Unix epoch.
    pub fn begin(self, number: u32) -> i64 {
        i64::from(number) * i64::from(self.seconds())
    }

    /// What a span is summed up from; a slot from nothing.
    pub fn parts(self, number: u32) -> Option<(Self, Range<u32>)> {
        let finer = match self {
            Self::Slot => return None,
            Self::Hour => Self::Slot,
            Self::Day => Self::Hour,
        };
        Some((finer, self.of_finer(finer, number)))
    }

    /// Its slots.
    pub fn slots(self, number: u32) -> Range<u32> {
        self.of_finer(Self::Slot, number)
    }

    fn of_finer(self, finer: Self, number: u32) -> Range<u32> {
        let parts = self.seconds() / finer.seconds();
        let first = number.saturating_mul(parts);
        first..first.saturating_add(parts)
    }
}

/// The time from one second until another, by slots: which, and how many seconds of it. None where it was too long to know, or
/// the clock was set back.
pub fn pieces(from: i64, until: i64) -> Vec<(u32, u32)> {
    let longest = i64::try_from(limits::HISTORY_GAP.as_secs()).unwrap_or(i64::MAX);
    let mut pieces = Vec::new();
    if from < 0 || until.saturating_sub(from) > longest {
        return pieces;
    }
    let mut at = from;
    while at < until {
        let slot = Level::Slot.at(at);
        let end = until.min(Level::Slot.begin(slot) + i64::from(Level::Slot.seconds()));
        pieces.push((slot, u32::try_from(end - at).unwrap_or_default()));
        at = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_second_is_lost_or_counted_twice(from in 0_i64..4_000_000_000, long in -5_i64..70) {
            let pieces = pieces(from, from + long);
            let known = if (0..=60).contains(&long) { long } else { 0 };
            prop_assert_eq!(pieces.iter().map(|(_, seconds)| i64::from(*seconds)).sum::<i64>(), known);
            let mut at = from;
            for (slot, seconds) in pieces {
                prop_assert_eq!(Level::Slot.at(at), slot);
                at += i64::from(seconds);
                prop_assert_eq!(Level::Slot.at(at - 1), slot);
            }
        }

        #[test]
        fn a_span_is_its_parts(second in 0_i64..4_000_000_000) {
            for level in [Level::Hour, Level::Day] {
                let number = level.at(second);
                let (finer, parts) = level.parts(number).unwrap();
                prop_assert!(parts.contains(&finer.at(second)) && level.slots(number).contains(&Level::Slot.at(second)));
                prop_assert_eq!(finer.begin(parts.start), level.begin(number));
                prop_assert_eq!(finer.begin(parts.end), level.begin(number + 1));
            }
        }
    }

    #[test]
    fn the_finest_that_is_kept_is_told_and_keys_are_of_the_same_length() {
        let of = |hours: u64| Level::of(HistoryStep::Unspecified, Duration::from_secs(hours * 3600));
        assert_eq!(
            [of(1), of(48), of(49), of(60 * 24), of(61 * 24), of(u32::MAX.into())].map(Level::seconds),
            [300, 300, 3600, 3600, 86_400, 86_400]
        );
        assert_eq!(Level::of(HistoryStep::Hour, Duration::ZERO), Level::Hour);
        for level in Level::ALL {
            let kind = keys::KINDS[keys::kind_of(level.kind())];
            assert_eq!((kind.prefix, kind.seconds), (level.kind(), Some(level.seconds().into())));
        }
        assert_eq!((Level::Slot.at(-5), Level::Slot.at(i64::MAX)), (0, u32::MAX));
    }
}
