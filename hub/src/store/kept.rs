//! Records that are kept for a time, each of an agent and a number of hours, days or the like: whose they are, how old, and how
//! the old ones go. One search of the ordered keys an agent, however many records it has.

use std::fs;

use sfdata_common::ids::AgentId;

use super::{Batch, Error, Store, damaged, keys, records};

/// Records removed in one batch.
const REMOVED_AT_ONCE: usize = 1_000;

impl Store {
    /// The agents that have records of a numbered kind, each with the number of its first.
    fn firsts(&self, kind: &[u8]) -> Result<Vec<(AgentId, u32)>, Error> {
        let mut firsts = Vec::new();
        let mut from = kind.to_vec();
        while let Some(item) = self.db.range(from..).next() {
            let (key, _) = item.map_err(|source| damaged(&self.path, source))?;
            let Some(rest) = key.strip_prefix(kind) else { break };
            let Some((agent, number)) = keys::numbered_at(rest) else {
                return Err(Error::Record { key: key.escape_ascii().to_string() });
            };
            from = keys::numbered_end(kind, &agent);
            firsts.push((agent, number));
        }
        Ok(firsts)
    }

    /// The agents that have records of a numbered kind, those that were removed from the registry among them.
    pub fn agents(&self, kind: &[u8]) -> Result<Vec<AgentId>, Error> {
        Ok(self.firsts(kind)?.into_iter().map(|(agent, _)| agent).collect())
    }

    /// Remove the records of a numbered kind whose number is below that. May run at any time.
    pub async fn forget(&self, kind: &[u8], before: u32) -> Result<(), Error> {
        for (agent, _) in self.firsts(kind)?.into_iter().filter(|(_, first)| *first < before) {
            let range = keys::numbered_of(kind, &agent)..keys::history(kind, &agent, before);
            let old = self.db.range(range).keys().collect::<Result<Vec<_>, _>>();
            for some in old.map_err(|source| damaged(&self.path, source))?.chunks(REMOVED_AT_ONCE) {
                let mut batch = Batch::default();
                some.iter().for_each(|key| batch.delete(key.to_vec()));
                self.commit(batch).await?;
            }
        }
        Ok(())
    }

    /// Note how old the oldest records are. May run at any time.
    pub fn note_oldest(&self) -> Result<(), Error> {
        for (place, kind) in keys::KINDS.iter().enumerate() {
            let oldest = match kind.seconds {
                Some(seconds) => {
                    let first = self.firsts(kind.prefix)?.into_iter().map(|(_, number)| number).min();
                    first.map(|number| i64::from(number) * seconds)
                }
                None if kind.prefix == keys::COMMANDS => {
                    let first = self.scan::<records::Command>(kind.prefix).next().transpose()?;
                    first.map(|(_, record)| record.submitted.div_euclid(1000))
                }
                None if kind.prefix == keys::AUDIT => {
                    self.audit(0).next().transpose()?.map(|entry| entry.at_unix_ms.div_euclid(1000))
                }
                None => continue,
            };
            self.kept.oldest(place, oldest.unwrap_or_default());
        }
        Ok(())
    }

    /// Note how much room the files take. May run at any time.
    pub fn note_disk(&self) -> Result<(), Error> {
        let database = self.db.size_on_disk().map_err(|source| damaged(&self.path, source))?;
        let log = fs::metadata(self.path.join(super::log::FILE)).map_or(0, |file| file.len());
        self.kept.disk(database + log);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::Metrics;

    fn put(batch: &mut Batch, agent: &str, number: u32, tasks_most: u32) {
        let record = records::History { tasks_most, ..Default::default() };
        batch.put(keys::history(keys::HISTORY_DAYS, &agent.parse().unwrap(), number), &record);
    }

    #[tokio::test]
    async fn whose_records_there_are_is_found_and_the_old_ones_go() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::create(home.path(), Metrics::default()).unwrap();
        let mut batch = Batch::default();
        for (number, agent) in ["ely", "ely-2", "ely0", "el"].iter().enumerate() {
            (0..2_500).for_each(|day| put(&mut batch, agent, day + number as u32, 1));
        }
        store.commit(batch).await.unwrap();
        let all = || {
            let found = store.firsts(keys::HISTORY_DAYS).unwrap();
            found.into_iter().map(|(agent, first)| format!("{agent} {first}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(all(), "el 3, ely-2 1, ely 0, ely0 2");
        assert!(store.agents(keys::USAGE_DAYS).unwrap().is_empty());
        store.forget(keys::HISTORY_DAYS, 2_001).await.unwrap();
        assert_eq!(all(), "el 2001, ely-2 2001, ely 2001, ely0 2001");
        store.forget(keys::HISTORY_DAYS, 2_500).await.unwrap();
        assert_eq!(all(), "el 2500, ely-2 2500, ely0 2500", "who has none left is not told");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever is written and removed, before and after a restart, the count is what is there.
        #[test]
        fn what_is_counted_is_what_is_kept(
            changes in proptest::collection::vec((0_u32..6, 0_u32..4, any::<bool>()), 0..40),
            cut in any::<prop::sample::Index>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let home = tempfile::tempdir().unwrap();
                let metrics = Metrics::default();
                let store = Store::create(home.path(), metrics.clone()).unwrap();
                let (before, after) = changes.split_at(cut.index(changes.len() + 1));
                write(&store, before).await;
                count(&store, &metrics);
                store.close().await;
                drop(store);
                let metrics = Metrics::default();
                let store = Store::open(home.path(), metrics.clone()).unwrap();
                count(&store, &metrics);
                write(&store, after).await;
                count(&store, &metrics);
                store.close().await;
            });
        }
    }

    async fn write(store: &Store, changes: &[(u32, u32, bool)]) {
        for (number, size, there) in changes {
            let mut batch = Batch::default();
            match there {
                true => put(&mut batch, "ely", *number, 1 << (size * 8)),
                false => batch.delete(keys::history(keys::HISTORY_DAYS, &"ely".parse().unwrap(), *number)),
            }
            batch.audit(sfdata_proto::v1::AuditEntry { kind: number.to_string(), ..Default::default() });
            store.commit(batch).await.unwrap();
        }
    }

    fn count(store: &Store, metrics: &Metrics) {
        let mut counted = vec![(0, 0); keys::KINDS.len()];
        for item in store.db.iter() {
            let (key, value) = item.unwrap();
            let (records, bytes) = &mut counted[keys::kind_of(&key)];
            (*records, *bytes) = (*records + 1, *bytes + (key.len() + value.len()) as i64);
        }
        assert_eq!(metrics.kept.all(), counted);
    }
}
