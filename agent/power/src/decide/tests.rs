//! The decision, one rule after the other.

use std::collections::BTreeMap;

use super::*;
use crate::{
    alarms::What,
    observation::{Location, Sensor, Tick},
    settings::Span,
};

mod world;

use self::world::*;

fn scale(service: &str, to: u32) -> Act {
    Act::Scale { service: service.into(), to }
}

#[test]
fn an_idle_platform_sleeps_after_two_looks_the_daemon_first_and_the_rest_after_one_more() {
    let mut world = World::awake();
    world.look(2);
    assert!(world.state.quiet.is_some() && world.state.phase == Phase::Awake);
    world.pass(26);
    assert_eq!(world.state.phase, Phase::Awake, "a full look a while later has to find nothing either");
    world.until(Phase::Asleep, 20);
    assert_eq!(world.done, [scale("daemon", 0), scale("code", 0), scale("web", 0)]);
    assert!(world.state.alarms.iter().any(|alarm| alarm.what == What::Look), "it never sleeps without an alarm");
}

#[test]
fn it_wakes_code_and_page_first_then_the_daemon_and_is_awake_when_all_is_loaded() {
    let mut world = World::asleep();
    world.arrive(1);
    world.dagster().locations[0].state = Loading::Failed;
    world.until(Phase::Waking, 4);
    world.pass(10);
    assert_eq!(world.done[..3], [scale("code", 1), scale("web", 1), scale("daemon", 1)]);
    assert!(world.done.contains(&Act::Reload { location: "loc".into() }));
    assert_eq!(world.state.phase, Phase::Waking);
    world.dagster().locations[0].state = Loading::Loaded;
    world.until(Phase::Awake, 4);
    assert_eq!(world.state.cause.as_deref(), Some("arrivals"));
    world.look(2);
    assert_eq!(world.decision.acts, [Act::HandOn]);
    assert_eq!(world.state.wakes.len(), 1, "how long it took is learned");
}

#[test]
fn the_daemon_waits_for_its_code_and_for_the_end_of_the_one_before() {
    let mut world = World::asleep();
    world.service("daemon").tasks = 1; // it is still ending
    world.state.wishes.person = Some(at(world.now));
    world.pass(20);
    assert!(!world.done.contains(&scale("daemon", 1)), "{:?}", world.done);
    world.service("daemon").tasks = 0;
    world.service("code").running = 0;
    world.pass(20);
    assert!(!world.done.contains(&scale("daemon", 1)), "{:?}", world.done);
    world.service("code").running = 1;
    world.pass(4);
    assert_eq!(world.done.iter().filter(|act| **act == scale("daemon", 1)).count(), 1);
}

/// What happens to it.
type Change = fn(&mut World);

/// What keeps it awake, each with its name, and how it is brought about.
fn reasons_to_stay() -> Vec<(Kind, Change)> {
    vec![
        (Kind::StayAwake, |world| world.state.wishes.awake_until = Some(at(100_000))),
        (Kind::Calendar, |world| world.settings.awake = vec![Span { from: at(-9), until: at(100_000) }]),
        (Kind::Command, |world| world.seen.commands = 1),
        (Kind::Arrivals, |world| world.arrive(2)),
        (Kind::Runs, |world| world.dagster().runs = 1),
        (Kind::RunTasks, |world| world.estate().run_tasks = 1),
        (Kind::Backfills, |world| world.dagster().backfills = 1),
        (Kind::ScheduleSoon, |world| world.schedule(&[world.now + 150, world.now + 90_000], Some(-9))),
        (Kind::SensorPending, |world| {
            world.dagster().run_ended = Some(at(world.now));
            world.sensor(30, world.now - 20);
        }),
        (Kind::Unreadable, |world| world.seen.dagster = Reading::Unread { since: at(0), why: "x".into() }),
        (Kind::Unreadable, |world| world.seen.arrivals = Reading::Unread { since: at(0), why: "x".into() }),
    ]
}

#[test]
fn each_reason_keeps_it_awake_and_is_told() {
    for (kind, bring) in reasons_to_stay() {
        let mut world = World::awake();
        world.look(2);
        bring(&mut world);
        world.pass(70);
        assert_eq!((world.state.phase, world.kinds().contains(&kind)), (Phase::Awake, true), "{kind:?}");
        assert!(!world.done.iter().any(|act| matches!(act, Act::Scale { .. })), "{kind:?}: {:?}", world.done);
    }
    let mut blind = World::awake();
    blind.seen.ecs = Reading::Unread { since: at(0), why: "x".into() };
    blind.pass(70);
    assert_eq!((blind.state.phase, blind.kinds()), (Phase::Awake, vec![Kind::Unreadable]));
}

#[test]
fn each_reason_turns_a_draining_back_at_every_step() {
    for (kind, bring) in reasons_to_stay() {
        for step in 0..3 {
            let mut world = World::awake();
            world.until(Phase::Draining, 60);
            (0..step).for_each(|_| drop(world.look(2).clone()));
            if world.state.phase == Phase::Asleep || (kind == Kind::Unreadable && world.state.closing) {
                continue; // by then the source is asleep itself
            }
            world.now += 70; // longer than a blink
            bring(&mut world);
            world.look(2);
            assert_eq!(world.state.phase, Phase::Waking, "{kind:?} at step {step}");
        }
    }
}

#[test]
fn a_file_that_arrives_in_any_100_ms_of_draining_is_handed_on() {
    for slot in 0..100 {
        let mut world = World::awake();
        world.until(Phase::Draining, 60);
        let arrives = world.now * 10 + slot; // in tenths of a second
        for _ in 0..100 {
            if world.now * 10 >= arrives && world.seen.arrivals.value().unwrap().handed_on.is_none() {
                world.arrive(1);
            }
            world.look(1);
            if world.done.contains(&Act::HandOn) {
                break;
            }
        }
        assert!(world.done.contains(&Act::HandOn), "slot {slot}: {:?}", world.state.phase);
        let daemons: Vec<_> =
            world.done.iter().filter(|act| matches!(act, Act::Scale { service, .. } if service == "daemon")).collect();
        assert!(daemons.windows(2).all(|two| two[0] != two[1]), "slot {slot}: {daemons:?}");
    }
}

#[test]
fn a_schedule_is_woken_for_before_its_tick_also_when_the_clocks_change() {
    // 01:30 in London on both sides of the end of summer time, and one summer's night: instants of Dagster's own.
    for tick in ["2027-10-31T00:30:00Z", "2027-10-31T01:30:00Z", "2027-03-28T01:30:00Z"] {
        let tick: Timestamp = tick.parse().unwrap();
        let mut world = World::awake();
        let due = tick.as_second() - START;
        world.now = due - 20_000;
        world.schedule(&[due, due + 86_400], Some(due - 86_400));
        world.settings.longest_sleep = seconds(400_000);
        world.until(Phase::Asleep, 300);
        while world.state.phase == Phase::Asleep {
            world.look(10);
        }
        let ahead = due - world.now;
        assert!((60..=200).contains(&ahead), "{ahead} s before {tick}");
        world.until(Phase::Awake, 10);
        world.schedule(&[due, due + 86_400], Some(due - 86_400));
        world.pass(ahead);
        assert_eq!(world.state.phase, Phase::Awake, "not before it has ticked");
        world.schedule(&[due + 86_400], Some(due - 86_400));
        world.pass(60);
        assert_eq!(world.kinds(), [Kind::ScheduleDue]);
        world.schedule(&[due + 86_400], Some(due));
        world.until(Phase::Asleep, 60);
    }
}

#[test]
fn a_clock_that_jumps_rings_late_alarms_at_once_and_none_too_early() {
    let mut world = World::awake();
    world.schedule(&[20_000, 100_000], Some(-9));
    world.until(Phase::Asleep, 300);
    world.now = 50_000;
    world.look(2);
    assert_eq!((world.state.phase, world.kinds()), (Phase::Waking, vec![Kind::ScheduleSoon]));

    let mut world = World::awake();
    world.schedule(&[20_000, 100_000], Some(-9));
    world.until(Phase::Asleep, 300);
    world.now -= 3_000;
    world.pass(600);
    assert_eq!(world.state.phase, Phase::Asleep);
    assert!(world.state.since <= at(world.now), "nothing remembered lies ahead");
}

#[test]
fn a_sensor_that_looks_much_later_is_woken_for_and_not_waited_for() {
    let mut world = World::awake();
    world.dagster().run_ended = Some(at(-5));
    world.sensor(3600, -600);
    world.until(Phase::Asleep, 300);
    assert!(
        world.state.alarms.iter().any(|alarm| alarm.at == at(3000) && alarm.what == What::Sensor("loc/clean".into()))
    );
    while world.state.phase == Phase::Asleep {
        world.look(10);
    }
    assert!((3000..=3010).contains(&world.now), "{}", world.now);
    world.until(Phase::Awake, 20);
    world.pass(60);
    assert_eq!(world.kinds(), [Kind::SensorPending], "it has not looked yet");
    world.sensor(3600, world.now);
    world.until(Phase::Asleep, 60);
    assert!(world.state.alarms.iter().all(|alarm| !matches!(alarm.what, What::Sensor(_))), "it has seen all there is");
}

#[test]
fn what_is_asleep_wakes_for_each_reason_and_for_nothing_else() {
    let mut world = World::asleep();
    world.pass(600);
    assert_eq!((world.state.phase, world.done.len()), (Phase::Asleep, 0));
    let reasons: [(Kind, Change); 7] = [
        (Kind::Arrivals, |world| world.arrive(1)),
        (Kind::Person, |world| world.state.wishes.person = Some(at(world.now))),
        (Kind::StayAwake, |world| world.state.wishes.awake_until = Some(at(world.now + 900))),
        (Kind::Command, |world| world.seen.needs_dagster = true),
        (Kind::ByHand, |world| world.service("web").desired = 1),
        (Kind::CodeChanged, |world| world.service("code").definition = "code:2".into()),
        (Kind::RunTasks, |world| world.estate().run_tasks = 1),
    ];
    for (kind, bring) in reasons {
        let mut world = World::asleep();
        bring(&mut world);
        world.look(2);
        assert_eq!((world.state.phase, world.kinds()[0]), (Phase::Waking, kind));
    }
    let mut world = World::asleep();
    world.seen.commands = 1;
    world.pass(60);
    assert_eq!(world.state.phase, Phase::Asleep, "a command that changes a sleeping service needs nobody awake");
}

#[test]
fn a_person_gets_their_time_and_then_it_sleeps() {
    let mut world = World::asleep();
    world.state.wishes.person = Some(at(world.now));
    world.until(Phase::Awake, 20);
    world.pass(14 * 60);
    assert_eq!((world.state.phase, world.kinds()), (Phase::Awake, vec![Kind::Person]));
    world.until(Phase::Asleep, 180);
    assert_eq!(world.state.wishes.person, None);
}

#[test]
fn a_wake_that_is_stuck_is_told_with_its_cause_and_tried_anew_less_and_less_often() {
    let mut world = World::asleep();
    world.state.wishes.person = Some(at(world.now));
    world.until(Phase::Waking, 4);
    let renewals = |world: &World| world.done.iter().filter(|act| matches!(act, Act::Renew { .. })).count();
    let mut told = 0;
    for _ in 0..6 * 1800 {
        let code = world.service("code");
        (code.running, code.trouble) = (0, Some(Trouble::Other("CannotPullContainerError".into())));
        world.look(2);
        told += usize::from(world.faults().contains(&"stuck-waking"));
    }
    assert!(world.decision.faults[0].detail.contains("CannotPullContainerError"), "{:?}", world.decision.faults);
    assert!(told > 9_000 && (3..=9).contains(&renewals(&world)), "{told} {}", renewals(&world));
    (world.service("code").running, world.service("code").trouble) = (1, None);
    world.until(Phase::Awake, 20);
    assert_eq!(world.state.wakes, [world.settings.stuck], "a wake may take long, and the next tick has to be met");
}

#[test]
fn the_code_alone_is_reloaded_and_handed_on_to_and_the_rest_makes_it_awake() {
    let mut world = World::asleep();
    let rest = world.seen.dagster.clone();
    let code = |state| Reading::At(at(0), vec![Location { name: "loc".into(), state }]);
    world.arrive(1);
    (world.seen.code, world.seen.dagster) = (code(Loading::Loading), Reading::Off);
    world.until(Phase::Waking, 4);
    world.pass(10);
    let (hand_on, reload) = (Act::HandOn, Act::Reload { location: "loc".into() });
    assert!(!world.done.contains(&hand_on) && !world.done.contains(&reload), "{:?}", world.done);
    world.seen.code = code(Loading::Failed);
    world.look(1);
    assert!(world.done.contains(&reload) && !world.done.contains(&hand_on), "{:?}", world.done);
    world.seen.code = code(Loading::Loaded);
    world.look(1);
    assert!(world.done.contains(&hand_on), "it need not wait for the rest");
    world.arrive(0);
    world.pass(30);
    assert_eq!(world.state.phase, Phase::Waking, "whether the daemon lives is not known");
    world.seen.dagster = rest;
    world.until(Phase::Awake, 4);
}

#[test]
fn a_webserver_that_tells_its_code_is_not_renewed_for_the_code() {
    let mut world = World::asleep();
    world.state.wishes.person = Some(at(world.now));
    let code = vec![Location { name: "loc".into(), state: Loading::Loading }];
    (world.seen.code, world.seen.dagster) = (Reading::At(at(0), code), Reading::Off);
    world.pass(2 * 1800);
    let fault = world.decision.faults.iter().find(|fault| fault.kind == "stuck-waking").unwrap();
    assert!(fault.detail.contains("not all code locations are loaded"), "{fault:?}");
    assert!(!world.done.iter().any(|act| matches!(act, Act::Renew { .. })), "{:?}", world.done);
}

#[test]
fn without_spot_it_moves_to_on_demand_and_back_when_it_sleeps() {
    let mut world = World::asleep();
    world.state.wishes.person = Some(at(world.now));
    world.until(Phase::Waking, 4);
    world.look(2);
    (world.service("code").running, world.service("code").trouble) = (0, Some(Trouble::NoSpot));
    world.look(2);
    let to = |to: &str| Act::Capacity { service: "code".into(), to: to.into() };
    assert!(world.done.contains(&to(ON_DEMAND)));
    (world.service("code").running, world.service("code").trouble) = (1, None);
    world.until(Phase::Awake, 20);
    let of_daemon: Vec<_> = world.done.iter().filter(|act| is_of(act, "daemon")).cloned().collect();
    let moved = Act::Capacity { service: "daemon".into(), to: ON_DEMAND.into() };
    assert_eq!(of_daemon, [moved, scale("daemon", 1)], "it is not tried on Spot first");
    world.done.clear();
    world.until(Phase::Asleep, 1200);
    world.pass(20);
    assert_eq!(world.done.iter().filter(|act| **act == to("FARGATE_SPOT:1")).count(), 1);
    assert_eq!(world.state.on_demand, BTreeMap::new());
}

fn is_of(act: &Act, name: &str) -> bool {
    matches!(act, Act::Scale { service, .. } | Act::Capacity { service, .. } if service == name)
}

#[test]
fn a_stopped_database_is_started_first() {
    let mut world = World::asleep();
    world.state.wishes.person = Some(at(world.now));
    world.seen.database = Reading::At(at(0), Database::Stopped);
    world.pass(6);
    assert!(world.done.iter().all(|act| *act == Act::StartDatabase) && !world.done.is_empty(), "{:?}", world.done);
    world.seen.database = Reading::At(at(0), Database::Moving);
    world.done.clear();
    world.pass(6);
    assert_eq!(world.done, []);
    world.seen.database = Reading::At(at(0), Database::Ready);
    world.until(Phase::Awake, 20);
}

#[test]
fn a_location_that_does_not_load_is_told_and_neither_loops_nor_keeps_it_awake() {
    let mut world = World::asleep();
    world.dagster().locations.push(Location { name: "broken".into(), state: Loading::Failed });
    for wake in 0..2 {
        world.state.wishes.person = Some(at(world.now));
        world.until(Phase::Awake, if wake == 0 { 300 } else { 10 }); // known to be broken, it is not waited for
        world.look(2);
        assert_eq!(world.faults(), ["location-failed"]);
        world.until(Phase::Asleep, 1200);
    }
    let reloads = world.done.iter().filter(|act| matches!(act, Act::Reload { .. })).count();
    assert!((6..40).contains(&reloads), "{reloads}");
}

#[test]
fn a_silent_daemon_counts_as_unreadable_and_is_told() {
    let mut world = World::awake();
    for _ in 0..60 {
        world.dagster().heartbeat = None;
        world.look(2);
    }
    assert_eq!(
        (world.state.phase, world.kinds(), world.faults()),
        (Phase::Awake, vec![Kind::Unreadable], vec!["daemon-silent"])
    );
}

#[test]
fn services_stopped_by_hand_are_brought_up_before_anything_else_is_decided() {
    let mut world = World::awake();
    let web = world.service("web");
    (web.desired, web.running, web.tasks) = (0, 0, 0);
    world.look(2);
    assert_eq!((world.state.phase, world.kinds()), (Phase::Waking, vec![Kind::ByHand]));
    world.until(Phase::Awake, 10);
    assert_eq!(world.done, [scale("web", 1)]);
}

#[test]
fn what_is_left_to_people_is_left_alone() {
    let mut world = World::awake();
    world.state.wishes.manual = true;
    world.pass(300);
    let web = world.service("web");
    (web.desired, web.running, web.tasks) = (0, 0, 0);
    world.pass(300);
    assert_eq!((world.done.len(), world.state.phase), (0, Phase::Awake));
}

#[test]
fn what_arrives_is_handed_on_whenever_people_have_dagster_run() {
    let mut world = World::awake();
    world.state.wishes.manual = true;
    world.arrive(3);
    let dagster = std::mem::replace(&mut world.seen.dagster, Reading::Off);
    world.pass(60);
    assert_eq!(world.done, []);
    world.seen.dagster = dagster;
    world.dagster().locations[0].state = Loading::Failed;
    world.look(2);
    world.dagster().locations[0].state = Loading::Loaded;
    world.dagster().heartbeat = None;
    world.look(2);
    assert_eq!(world.done, [], "without code or daemon it would not be seen");
    world.dagster().heartbeat = Some(at(world.now));
    world.look(2);
    assert_eq!(world.done, [Act::HandOn]);
}

#[test]
fn what_cannot_be_read_for_long_is_told_whatever_the_platform_is_at() {
    for phase in [Phase::Asleep, Phase::Waking, Phase::Awake, Phase::Draining] {
        let mut world = World::awake();
        world.state.enter(phase, at(0));
        world.seen.ecs = Reading::Unread { since: at(0), why: "throttled".into() };
        world.look(590);
        assert!(!world.faults().contains(&"ecs-unreadable"), "{phase:?}");
        world.look(20);
        assert!(world.faults().contains(&"ecs-unreadable"), "{phase:?}: {:?}", world.decision.faults);
    }
}

#[test]
fn runs_that_alone_keep_it_awake_for_half_a_day_are_told() {
    let mut world = World::awake();
    world.dagster().runs = 1;
    let told = |world: &World| world.faults().contains(&"long-awake");
    world.state.wishes.awake_until = Some(at(13 * 3600));
    world.look(14 * 3600);
    assert!(!told(&world), "somebody wanted it awake until then");
    world.look(11 * 3600);
    assert!(!told(&world));
    world.look(2 * 3600);
    assert!(told(&world), "{:?}", world.decision);
    world.dagster().runs = 0;
    world.look(2);
    assert!(!told(&world));
}

#[test]
fn what_has_just_begun_to_move_is_looked_at_sooner() {
    let mut world = World::asleep();
    world.service("code").trouble = Some(Trouble::Other("no image".into()));
    world.dagster().heartbeat = None;
    world.state.wishes.person = Some(at(world.now));
    world.look(1);
    let pauses = [1, 3, 6, 30].map(|later| world.look(later).again.as_millis());
    assert_eq!(pauses, [250, 250, 500, 1000]);
}

#[test]
fn it_wakes_to_as_many_tasks_as_it_had() {
    let mut world = World::awake();
    let code = world.service("code");
    (code.desired, code.running, code.tasks) = (2, 2, 2);
    world.until(Phase::Asleep, 300);
    world.pass(60);
    world.state.wishes.person = Some(at(world.now));
    world.until(Phase::Awake, 20);
    assert!(world.done.contains(&scale("code", 2)));
}

#[test]
fn what_falls_silent_while_awake_is_brought_up_again() {
    let silences: [(&str, Change); 3] = [
        ("the page is gone", |world| {
            world.service("web").running = 0;
            world.seen.dagster = Reading::Off;
        }),
        ("the page does not answer", |world| world.seen.dagster = Reading::Unread { since: at(0), why: "x".into() }),
        ("the daemon hangs", |world| world.dagster().heartbeat = None),
    ];
    for (which, silence) in silences {
        let mut world = World::awake();
        silence(&mut world);
        world.pass(120);
        assert_eq!((world.state.phase, world.state.quiet), (Phase::Awake, None), "{which}: ECS may mend it by itself");
        assert!(world.kinds().contains(&Kind::Unreadable), "{which}: {:?}", world.kinds());
        world.until(Phase::Waking, 120);
        // From there on it is tried anew.
        world.pass(700);
        assert!(world.done.iter().any(|act| matches!(act, Act::Renew { .. })), "{which}: {:?}", world.done);
    }
}

#[test]
fn a_drain_is_not_turned_back_by_what_it_was_not_begun_for() {
    let mut world = World::awake();
    world.dagster().run_ended = Some(at(-5));
    let due = 34 + 121; // more than it takes to sleep and to wake, when it begins to drain
    world.sensor(3600, due - 3600);
    world.until(Phase::Draining, 40);
    assert!((30..=36).contains(&world.now), "{}", world.now);
    world.until(Phase::Asleep, 20);
    assert!(world.state.alarms.iter().any(|alarm| alarm.at == at(due)));
}

#[test]
fn a_tick_that_was_cut_is_made_up_for_when_its_sensors_interval_has_passed() {
    let mut world = World::awake();
    world.state.enter(Phase::Awake, at(0));
    world.dagster().run_ended = Some(at(-60));
    let last = Some(Tick { at: at(-10), ended: false, failed: false });
    world.dagster().sensors = vec![Sensor { name: "loc/clean".into(), interval: seconds(3600), last }];
    world.until(Phase::Asleep, 800);
    let alarm = world.state.alarms.iter().find(|alarm| matches!(alarm.what, What::Sensor(_))).unwrap();
    assert_eq!(alarm.at, at(3590));
}

#[test]
fn a_sensor_whose_tick_failed_has_seen_nothing_and_is_not_waited_for_for_ever() {
    let mut world = World::awake();
    let fail = |world: &mut World| {
        let last = Some(Tick { at: at(world.now), ended: true, failed: true });
        world.dagster().sensors = vec![Sensor { name: "loc/clean".into(), interval: seconds(30), last }];
    };
    world.state.enter(Phase::Awake, at(0));
    world.dagster().run_ended = Some(at(-60));
    let mut told = false;
    while world.now < 2_000 && world.state.phase != Phase::Asleep {
        if world.now % 30 == 0 {
            fail(&mut world);
        }
        world.look(2);
        told |= world.faults().contains(&"sensor-late");
        assert!(world.now > 590 || world.kinds() == [Kind::SensorPending], "{} {:?}", world.now, world.kinds());
    }
    assert!(told && world.state.phase == Phase::Asleep, "{told} {:?}", world.decision);
    let alarm = world.state.alarms.iter().find(|alarm| matches!(alarm.what, What::Sensor(_))).unwrap();
    assert!(alarm.at > at(world.now + 1800), "it is tried again, and not at once");
}

#[test]
fn a_run_that_was_at_work_at_the_last_look_has_ended_since_whatever_dagster_tells() {
    let mut world = World::awake();
    world.sensor(3600, -100);
    world.dagster().runs = 1;
    world.pass(200);
    world.dagster().runs = 0; // and of those that ended it tells an older one
    world.dagster().run_ended = Some(at(-4000));
    world.until(Phase::Asleep, 120);
    assert!(
        world.state.alarms.iter().any(|alarm| alarm.what == What::Sensor("loc/clean".into()) && alarm.at == at(3500))
    );
}

#[test]
fn a_tick_that_never_came_is_told_until_another_one_comes() {
    let mut world = World::awake();
    world.schedule(&[100, 90_000], Some(-9));
    world.pass(110);
    world.schedule(&[90_000], Some(-9));
    world.pass(1_000);
    assert_eq!(world.faults(), ["tick-missing"]);
    assert_eq!(world.state.phase, Phase::Asleep, "it is not waited for for ever");
    world.state.wishes.person = Some(at(world.now));
    world.until(Phase::Awake, 20);
    world.look(2);
    assert_eq!(world.faults(), ["tick-missing"]);
    world.schedule(&[180_000], Some(90_000));
    world.look(2);
    assert_eq!(world.faults(), Vec::<&str>::new());
}

#[test]
fn a_daemon_that_somebody_doubled_is_one_again_and_a_service_that_is_not_there_is_told() {
    let mut world = World::awake();
    world.service("daemon").desired = 2;
    world.look(2);
    assert_eq!((world.done.clone(), world.faults()), (vec![scale("daemon", 1)], vec!["two-daemons"]));
    world.estate().missing = vec!["code-2".into()];
    world.until(Phase::Asleep, 120);
    assert_eq!(world.faults(), ["service-missing"]);
}
