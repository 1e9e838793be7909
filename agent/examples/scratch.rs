#![allow(missing_docs, clippy::all, clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods)]
use std::{path::PathBuf, sync::Arc, time::{Duration, Instant}};
use bytes::Bytes;
use futures::future::BoxFuture;
use sfdata_agent::{config::Config, execute::{Job, Tools}, services::{Error, Services}};
use sfdata_common::{command::{Action, Aurora, Ecs, S3}, ids::CommandId};
use tokio_util::sync::CancellationToken;

struct T { note: Option<PathBuf>, die_after_keep: bool }
impl Tools for T {
    fn progress(&self, _: CommandId, step: String, percent: Option<u32>) { println!("progress {percent:?} {step}"); }
    fn checkpoint(&self, _: CommandId) -> Option<Bytes> { self.note.as_ref().and_then(|p| std::fs::read(p).ok()).map(Into::into) }
    fn keep(&self, _: CommandId, note: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        println!("keep {note:?}");
        if let Some(p) = &self.note { std::fs::write(p, &note).unwrap(); }
        if self.die_after_keep { println!("died"); std::process::exit(9); }
        Box::pin(async { Ok(()) })
    }
}
fn var(n: &str) -> Option<String> { std::env::var(n).ok() }
#[tokio::main]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    let config: Config = sfdata_common::config::load(a[1].as_ref()).unwrap();
    if let Err(e) = config.check() { println!("{e}"); }
    let services = Services::new(&config.aws, &config.platform).await;
    let token = CancellationToken::new();
    if let Some(ms) = var("CANCEL_MS") { let t = token.clone(); tokio::spawn(async move { tokio::time::sleep(Duration::from_millis(ms.parse().unwrap())).await; t.cancel(); }); }
    let job = Job::new(CommandId::generate(), token, Arc::new(T { note: var("NOTE").map(Into::into), die_after_keep: var("DIE").is_some() }));
    let began = Instant::now();
    let secs = |i: usize| Duration::from_secs(a[i].parse().unwrap());
    let action = match a[2].as_str() {
        "status" => Action::Ecs(Ecs::Status),
        "scale" => Action::Ecs(Ecs::Scale { service: a[3].clone(), desired: a[4].parse().unwrap(), deadline: secs(5) }),
        "restart" => Action::Ecs(Ecs::Restart { service: a[3].clone(), deadline: secs(4) }),
        "aurora" => Action::Aurora(Aurora::Status),
        "usage" => Action::S3(S3::Usage),
        "account" => { println!("{:?} in {:?}", services.account().await, began.elapsed()); return }
        "health" => { println!("{:#?} in {:?}", services.health().await, began.elapsed()); return }
        "report" => {
            let (handle, reporter) = sfdata_agent::report::Reporter::new(services);
            let stop = CancellationToken::new();
            let task = tokio::spawn(reporter.run(stop.clone()));
            let mut sub = handle.subscribe();
            let h = handle.clone();
            let two = tokio::join!(handle.refresh(), h.refresh());
            println!("same look: {}", Arc::ptr_eq(two.0.as_ref().unwrap(), two.1.as_ref().unwrap()));
            let mut last: Option<Arc<_>> = None;
            let end = tokio::time::Instant::now() + secs(3);
            while let Ok(Ok(())) = tokio::time::timeout_at(end, sub.changed()).await {
                let now = sub.borrow_and_update().clone().unwrap();
                let d = last.as_ref().map(|l| sfdata_agent::report::differs(l, &now));
                println!("look at {:?} differs {d:?} ecs error {:?} daemon {:?}", began.elapsed(), now.ecs.as_ref().unwrap().error, now.ecs.as_ref().unwrap().services.get(1).map(|s| (s.desired, s.running)));
                last = Some(now);
            }
            stop.cancel(); task.await.unwrap();
            println!("{:?}", handle.refresh().await.map(|_| ()));
            return
        }
        _ => panic!(),
    };
    let result = Box::pin(services.execute(&action, &job)).await.unwrap();
    match result { Ok(k) => println!("OK {k:#?}"), Err(e) => println!("ERR {e:?}") }
    println!("took {:?}", began.elapsed());
}
