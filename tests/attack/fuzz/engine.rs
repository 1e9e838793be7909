//! The search itself: take an input that is known, change it, look what became of it, keep what is new.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    os::unix::fs::FileExt as _,
    panic::{self, AssertUnwindSafe},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use sfdata_common::keys::sha256;

use super::mutate::{self, mutated};
use crate::process;

/// One input that takes so long hangs whoever waits for it. A debug build on a busy machine is some hundred times slower than
/// what is shipped.
const SLOW: Duration = Duration::from_secs(5);
/// Memory by which a target may grow: inputs have 64 KiB.
const GROWTH: u64 = 256 * 1024 * 1024;
/// Inputs that are changed further; more of them only dilute the search.
const POOL: usize = 1_000;
/// What goes into the repository is small.
const KEPT_BYTES: usize = 2_048;
/// Inputs of one target in the repository.
const KEPT: usize = 40;
/// Time to make all that is kept smaller; what is left then stays as large as it is.
const SHRINKING_TIME: Duration = Duration::from_secs(15);
/// Tries to make an input that is kept smaller.
const SHRINKING: usize = 300;

/// What became of an input, or which promise it broke.
pub(super) type Judged = Result<String, String>;

/// Puts an input in.
pub(super) type Judge = Box<dyn FnMut(&[u8]) -> Judged>;

/// Something that reads what others wrote.
pub(super) struct Target {
    /// For `--target`, the metric and the folder of its corpus.
    pub(super) name: &'static str,
    /// Make it.
    pub(super) make: fn() -> Result<Made>,
}

/// A target that is ready.
pub(super) struct Made {
    /// Inputs to begin with, beside those of the corpus.
    pub(super) seeds: Vec<Vec<u8>>,
    /// Words of its format.
    pub(super) words: &'static [&'static str],
    /// Put an input in.
    pub(super) judge: Judge,
}

/// What to search, and how long.
pub(super) struct Search<'a> {
    pub(super) target: &'a Target,
    pub(super) corpus: &'a Path,
    pub(super) current: &'a Path,
    pub(super) time: Duration,
    pub(super) seed: u64,
    pub(super) keep: bool,
}

/// What was done.
pub(super) struct Done {
    pub(super) runs: u64,
    pub(super) kinds: usize,
}

struct Bench<'a> {
    made: Made,
    current: File,
    name: &'a str,
    runs: u64,
}

impl Bench<'_> {
    /// Put one input in. Panics, hangs and broken promises are errors.
    fn put(&mut self, input: &[u8]) -> Result<String> {
        // What is in the file when this process dies is what killed it.
        self.current.set_len(input.len() as u64)?;
        self.current.write_all_at(input, 0)?;
        self.runs += 1;
        let began = Instant::now();
        let judge = &mut self.made.judge;
        let judged = panic::catch_unwind(AssertUnwindSafe(|| judge(input)));
        ensure!(began.elapsed() < SLOW, "{} took {:?} for {} bytes", self.name, began.elapsed(), input.len());
        match judged {
            Ok(Ok(kind)) => Ok(plainly(&kind)),
            Ok(Err(broken)) => bail!("{}: {broken}", self.name),
            Err(_) => bail!("{} panicked", self.name),
        }
    }
}

/// What an input became, without what it quotes of the input: words alone, and not too many.
fn plainly(kind: &str) -> String {
    let mut quoted = false;
    let kept = kind.chars().filter(|c| {
        if matches!(c, '"' | '`') {
            quoted = !quoted;
        }
        !quoted && (c.is_ascii_alphabetic() || *c == ' ')
    });
    kept.take(100).collect()
}

/// Search for the given time.
pub(super) fn search(search: &Search<'_>) -> Result<Done> {
    let name = search.target.name;
    let made = (search.target.make)().with_context(|| format!("{name} cannot be made ready"))?;
    let current = File::options().create(true).write(true).truncate(true).open(search.current)?;
    let mut rng = Rng::with_seed(search.seed ^ u64::from_be_bytes(sha256(name.as_bytes())[..8].try_into()?));
    let pid = std::process::id();
    let before = process::resident(pid)?;
    let (began, mut bench) = (Instant::now(), Bench { made, current, name, runs: 0 });
    let mut kinds: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut pool: Vec<Vec<u8>> = Vec::new();

    let corpus = kept(search.corpus)?;
    for input in corpus.values().chain(&bench.made.seeds.clone()) {
        let kind = bench.put(input)?;
        kinds.entry(kind).or_insert_with(|| input.clone());
        pool.push(input.clone());
    }
    ensure!(!pool.is_empty(), "{name} has nothing to begin with");
    let known = kinds.len();
    while began.elapsed() < search.time {
        for _ in 0..20 {
            let (at, other) = (rng.usize(..pool.len()), rng.usize(..pool.len()));
            let input = mutated(&mut rng, &pool[at], &pool[other], bench.made.words);
            let kind = bench.put(&input)?;
            if !kinds.contains_key(&kind) && pool.len() < POOL {
                kinds.insert(kind, input.clone());
                pool.push(input);
            }
        }
    }
    let grown = process::resident(pid)?.saturating_sub(before);
    ensure!(grown < GROWTH, "{name} grew by {grown} bytes");
    let runs = bench.runs;
    if search.keep && kinds.len() > known {
        let of_corpus: HashMap<String, ()> =
            corpus.values().map(|input| bench.put(input).map(|kind| (kind, ()))).collect::<Result<_>>()?;
        let ends = Instant::now() + SHRINKING_TIME;
        for (kind, input) in kinds.iter().filter(|(kind, _)| !of_corpus.contains_key(*kind)) {
            let small = shrunk(&mut bench, &mut rng, ends, (kind, input))?;
            if small.len() <= KEPT_BYTES && kept(search.corpus)?.len() < KEPT {
                fs::create_dir_all(search.corpus)?;
                let digest: String = sha256(&small)[..6].iter().map(|byte| format!("{byte:02x}")).collect();
                fs::write(search.corpus.join(digest), small)?;
            }
        }
    }
    Ok(Done { runs, kinds: kinds.len() })
}

/// Inputs of the repository, by name and so in a fixed order.
fn kept(corpus: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    if corpus.is_dir() {
        for entry in fs::read_dir(corpus)? {
            let entry = entry?;
            all.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
        }
    }
    Ok(all)
}

/// A smaller input of the same kind.
fn shrunk(bench: &mut Bench<'_>, rng: &mut Rng, ends: Instant, (kind, input): (&str, &[u8])) -> Result<Vec<u8>> {
    let mut small = input.to_vec();
    for _ in 0..SHRINKING {
        if small.is_empty() || Instant::now() > ends {
            break;
        }
        let at = rng.usize(..small.len());
        let length = rng.usize(1..=(small.len() - at).min(1 + small.len() / 3));
        let mut less = small.clone();
        less.drain(at..at + length);
        if less.len() < mutate::MOST && bench.put(&less)? == kind {
            small = less;
        }
    }
    Ok(small)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search_of(target: &Target, folder: &Path, keep: bool) -> Result<Done> {
        search(&Search {
            target,
            corpus: &folder.join("corpus"),
            current: &folder.join("now"),
            time: Duration::from_millis(300),
            seed: 7,
            keep,
        })
    }

    fn seeded(judge: fn(&[u8]) -> Judged) -> Made {
        Made { seeds: vec![b"aaaa".to_vec()], words: &["bug"], judge: Box::new(judge) }
    }

    #[test]
    fn a_panic_and_a_broken_promise_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let panics = Target {
            name: "panics",
            make: || {
                Ok(seeded(|input| {
                    assert!(!input.windows(3).any(|three| three == b"bug"), "found");
                    Ok("fine".into())
                }))
            },
        };
        assert!(search_of(&panics, folder.path(), false).is_err());
        let breaks = Target {
            name: "breaks",
            make: || Ok(seeded(|input| if input.len() > 40 { Err("too long".into()) } else { Ok("fine".into()) })),
        };
        assert!(search_of(&breaks, folder.path(), false).is_err());
    }

    #[test]
    fn an_input_with_a_new_result_is_kept_small() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target {
            name: "keeps",
            make: || {
                Ok(seeded(|input| Ok(if input.windows(3).any(|three| three == b"bug") { "new" } else { "old" }.into())))
            },
        };
        let done = search_of(&target, folder.path(), true).unwrap();
        assert_eq!(done.kinds, 2);
        let kept = kept(&folder.path().join("corpus")).unwrap();
        assert!(kept.values().any(|input| input.len() < 10), "{kept:?}");
    }

    #[test]
    fn what_is_quoted_is_no_part_of_a_result() {
        assert_eq!(plainly("3 of \"any\" thing: x9"), " of  thing x");
    }
}
