//! The disks of the hub and of an agent, on which bytes were changed, as by a fault or by somebody with access: what cannot be
//! read is said so, at the start, and never taken for something else.
//!
//! An input is a list of changes of six bytes: which file, where, and what is flipped there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use sfdata_agent::{
    journal::Journal,
    verify::{Judgement, verify},
};
use sfdata_common::{Timestamp, ids::OperatorName};
use sfdata_hub::{
    metrics::Metrics,
    store::{Batch, Store, backup, keys, records},
};
use tokio::runtime::Runtime;

use super::{
    engine::Made,
    signed::Scene,
    targets::{named, of_bytes, promise},
};

/// The files of a folder and below, by their path in it.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// In memory where that is to be had: thousands of folders are written.
fn folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?)
}

fn read(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder)?.to_owned(), fs::read(&path)?);
            }
        }
    }
    Ok(files)
}

fn write(folder: &Path, files: &Files) -> std::io::Result<()> {
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// The files with an input's changes. Places are within the first 64 KiB that hold anything.
fn changed(files: &Files, input: &[u8]) -> Files {
    let mut files = files.clone();
    for change in input.chunks_exact(6) {
        let which = usize::from(change[0]) % files.len().max(1);
        let Some(bytes) = files.values_mut().nth(which) else { continue };
        let at = usize::from(u16::from_be_bytes([change[1], change[2]]));
        match change[3] {
            0 => bytes.truncate(at),
            flip => {
                let at = at % bytes.len().max(1);
                bytes.iter_mut().skip(at).take(usize::from(change[4] % 4) + 1).for_each(|byte| *byte ^= flip);
            }
        }
    }
    files
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// The hub's store and its log, and backups of it.
pub(super) fn hub_disk() -> Result<Made> {
    let runtime = runtime()?;
    let scene = Scene::new()?;
    let (good, backed_up) = runtime.block_on(async {
        let folder = folder()?;
        let store = Store::create(folder.path(), Metrics::default())?;
        for number in 0..20 {
            let mut batch = Batch::default();
            let name: OperatorName = format!("operator-{number}").parse()?;
            batch.put(keys::operator(&name), &records::Operator { joined: true, ..Default::default() });
            let command = scene.restart()?;
            let envelope = scene.delivery(command.encode(), command.id).command;
            batch.put(keys::command(command.id), &records::Command { envelope, ..Default::default() });
            store.commit(batch).await?;
        }
        let file = folder.path().join("backup");
        store.backup(Box::new(fs::File::create(&file)?)).await?;
        let backed_up = fs::read(&file)?;
        fs::remove_file(file)?;
        store.close().await;
        drop(store);
        anyhow::Ok((read(folder.path())?, backed_up))
    })?;
    let seeds = vec![vec![0, 0, 60, 1, 0, 0], vec![1, 0, 60, 1, 0, 0], vec![2, 1, 0, 4, 2, 0], vec![]];
    let mut turn = 0_u32;
    Ok(of_bytes(seeds, move |input| {
        // Most inputs are a backup, which is read in no time; a store takes a file of 16 MiB.
        turn += 1;
        let files = Files::from([(PathBuf::new(), backed_up.clone())]);
        let backup = changed(&files, input).into_values().next().unwrap_or_default();
        let same = backup == backed_up;
        let summary = backup::read(&backup[..], |_, _| Ok(()));
        promise(summary.is_ok() == same, "a backup that was changed is taken, or one that was not is refused")?;
        if turn % 64 > 4 {
            return Ok(named(summary));
        }
        let place = folder().map_err(|error| error.to_string())?;
        write(place.path(), &changed(&good, input)).map_err(|error| error.to_string())?;
        let opened = runtime.block_on(async {
            let store = Store::open(place.path(), Metrics::default())?;
            let found = store.scan::<records::Operator>(keys::OPERATORS).filter(Result::is_ok).count();
            store.close().await;
            Ok::<_, sfdata_hub::store::Error>(found)
        });
        if let Ok(found) = &opened {
            promise(*found <= 20, "records are made up")?;
        }
        Ok(format!("{} {}", named(summary), named(opened).replace(&place.path().display().to_string(), "")))
    }))
}

/// An agent's journal: what it takes up again after a start is what it let in.
pub(super) fn agent_disk() -> Result<Made> {
    let runtime = runtime()?;
    let scene = Scene::new()?;
    let command = scene.restart()?;
    let good = runtime.block_on(async {
        let place = folder()?;
        Journal::create(place.path(), 1)?;
        let journal = Journal::open(place.path())?;
        let delivery = scene.delivery(command.encode(), command.id);
        let Judgement::Verified(verified) = verify(&delivery, &scene.facts()) else { bail!("it is not let in") };
        journal.accept(&verified, Timestamp::now()).await?;
        drop(journal);
        read(place.path())
    })?;
    let files = u8::try_from(good.len()).context("so many files")?;
    let seeds = (0..files).map(|file| vec![file, 0, 40, 1, 0, 0]).chain([vec![]]).collect();
    Ok(of_bytes(seeds, move |input| {
        let place = folder().map_err(|error| error.to_string())?;
        write(place.path(), &changed(&good, input)).map_err(|error| error.to_string())?;
        let _inside = runtime.enter();
        let opened = Journal::open(place.path());
        let told = match &opened {
            Ok(journal) => {
                let begun = journal.begun();
                promise(begun.len() <= 1, "work is made up")?;
                let same = begun.iter().all(|begun| begun.verified.command() == &command);
                promise(same, "another command than the one that was let in is taken up")?;
                format!("opened with {}", "b".repeat(begun.len()))
            }
            Err(error) => error.to_string().replace(&place.path().display().to_string(), ""),
        };
        Ok(told)
    }))
}
