//! Every bound of the product, each with its reason. A bound that is met is answered with an error
//! that names it, never with silence.

use std::time::Duration;

/// Largest gRPC message that a peer may send: a receipt with a status of a large cluster is under 200 KiB.
pub const MESSAGE_BYTES: usize = 1024 * 1024;
/// Largest message on the enrolment listener, which anybody can reach: a CSR is under 1 KiB.
pub const ENROL_MESSAGE_BYTES: usize = 16 * 1024;
/// Largest signed command: 1,000 targets of 48 bytes leave half of it free.
pub const COMMAND_BYTES: usize = 128 * 1024;
/// Largest outcome that an agent sends; longer results are cut, and say so.
pub const OUTCOME_BYTES: usize = 256 * 1024;
/// Targets of one command: some ten times the number of LAs that exist; the load test uses 1,000.
pub const TARGETS_PER_COMMAND: usize = 2_000;
/// Length of a reason: a few sentences, shown in tables and kept for ever in the audit record.
pub const REASON_BYTES: usize = 500;
/// Tasks of one service: the estate runs one to three of each; more is a slip of the finger.
pub const TASKS_PER_SERVICE: u32 = 20;
/// Longest time that an action may wait for its end; an image pull and a slow start take minutes.
pub const ACTION_DEADLINE_MAX: Duration = Duration::from_secs(3600);
/// Ended tasks that a deployment may wait for: each costs minutes in which the service is not there.
pub const FAILED_TASKS: u32 = 20;
/// Environment variables that one command changes: more is another task definition.
pub const ENVIRONMENT_VARIABLES: usize = 50;
/// Length of an environment variable's value: a task definition has at most 64 KiB in all.
pub const ENVIRONMENT_VALUE_BYTES: usize = 1024;
/// Lines of log that one command may stream: more is read where the logs are kept.
pub const LOG_LINES: u32 = 10_000;
/// Length of a pattern for log lines.
pub const LOG_PATTERN_BYTES: usize = 500;
/// Bytes of log that one command may stream. In parts of `LOG_PART_BYTES` they fit into a third of `WATCH_BACKLOG`, so that
/// none is left out on the way to a slow operator; what is found slowly comes in smaller parts, one a second.
pub const LOG_BYTES: usize = 1024 * 1024;
/// Size of one part of a stream of log lines: small beside a connection's window, large beside a seal's 64 bytes.
pub const LOG_PART_BYTES: usize = 16 * 1024;
/// Longest sealed part that the hub hands on; a line of CloudWatch's is up to 1 MiB, and is cut before.
pub const SEALED_PART_BYTES: usize = 32 * 1024;
/// Stopped tasks that are told of one service: enough to see whether it is always the same.
pub const STOPPED_TASKS: usize = 5;
/// Length of a stopped task's reason, of which a failed pull can make a page.
pub const STOP_REASON_CHARACTERS: usize = 300;
/// Tags that are told of one image, and platforms.
pub const IMAGE_TAGS: usize = 10;
/// Repositories of images that one agent is given: the platform has six.
pub const IMAGE_REPOSITORIES: usize = 20;
/// Images that are told of each, some 250 bytes apiece, so that all of them fit into one outcome.
pub const IMAGES_PER_REPOSITORY: usize = 40;
/// Images that are read of one repository: ten pages. ECR keeps 100,000; a lifecycle policy leaves some tens.
pub const IMAGES_READ: usize = 10_000;
/// Length of a secret's ARN: names have at most 512 characters (Secrets Manager API reference).
pub const SECRET_ARN_BYTES: usize = 800;
/// Words of a one-off task's command.
pub const RUN_WORDS: usize = 100;
/// Length of a one-off task's command: ECS takes overrides of 8,192 characters in all.
pub const RUN_BYTES: usize = 4096;
/// Longest time between a command's first and last valid moment: ids are remembered that long.
pub const COMMAND_VALIDITY_MAX: Duration = Duration::from_secs(24 * 3600);
/// Commands that wait for an LA's approval at one agent: more than a person can read, and no way to fill its disk.
pub const APPROVALS_WAITING: usize = 100;
/// How often an agent looks for its LA's word on a command that waits.
pub const APPROVAL_LOOK: Duration = Duration::from_secs(1);
/// How often it tells that a command waits: who watches anew, or a hub that was restarted, learns of it.
pub const APPROVAL_TOLD: Duration = Duration::from_secs(15);
/// Length of an LA's word on a command, and of the file that holds it.
pub const APPROVAL_BYTES: u64 = 16 * 1024;
/// Length of a freeze's name; a refusal has room for several.
pub const FREEZE_NAME_BYTES: usize = 100;
/// Clocks may differ by so much before a command counts as from the future. NTP keeps them within one second.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// Commands that may wait for one agent; a healthy one has none.
pub const QUEUE_PER_AGENT: usize = 1_000;
/// Agents in the registry: ten times what all of England could need, and what the load test holds.
pub const AGENTS: usize = 12_000;
/// Commands that the hub holds unfinished before it sheds load.
pub const UNFINISHED_COMMANDS: usize = 100_000;
/// Commands that may wait for a second operator: people look through them.
pub const PROPOSALS: usize = 200;
/// Audit entries that one proof may span, of some 200 bytes each; of a command that took longer its own entries are shown alone.
pub const PROOF_ENTRIES: usize = 5_000;
/// An agent's former receipt key is good for receipts that are on their way; commands live as long.
pub const RECEIPT_KEY_OVERLAP: Duration = COMMAND_VALIDITY_MAX;
/// Former receipt keys that are remembered of an agent, for proofs of commands of then: one a month for as long as those are kept.
pub const FORMER_RECEIPT_KEYS: usize = 14;
/// Finished commands are kept for so long, so that a year's audit can be answered.
pub const COMMANDS_KEPT: Duration = Duration::from_secs(400 * 24 * 3600);
/// Operations that wait for one group commit; bounds the memory of a burst.
pub const COMMIT_BATCH: usize = 1_024;
/// The hub takes no new command when its disk has less free: room to finish what was begun, and for a backup.
pub const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// TLS handshakes at once, on each listener: a storm waits in the kernel's queue instead of in memory.
pub const HANDSHAKES: usize = 256;
/// Handshakes at once from one address: silent peers must not hold every slot.
pub const HANDSHAKES_PER_ADDRESS: usize = 128;
/// A handshake takes two round trips; a peer that needs longer is not one.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that one connection may have open: hubctl uses two.
pub const STREAMS_PER_CONNECTION: u32 = 256;
/// Connections that one subject may have open; the oldest gives way. An agent has one, two while it renews; an operator one
/// for each hubctl that runs. A stolen certificate must not use up the hub's memory.
pub const CONNECTIONS_PER_SUBJECT: usize = 256;
/// What a peer may send on one stream before somebody reads it.
pub const STREAM_WINDOW: u32 = 64 * 1024;
/// What a peer may send on one connection before somebody reads it.
pub const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Bytes of messages that have begun to come and are not whole, of all streams of one subject together: sixteen of the
/// greatest, or a thousand commands of one target.
pub const UNFINISHED_BYTES: usize = 16 * MESSAGE_BYTES;
/// Requests of one operator: twice as many as the load test submits commands on this way (2,200 a second).
pub const OPERATOR_REQUESTS_PER_SECOND: u32 = 4_000;
/// Requests of one agent, whose link is one request for hours, or of one address that joins.
pub const REQUESTS_PER_SECOND: u32 = 100;
/// All headers of one request: ours have some hundred bytes.
pub const HEADER_LIST_BYTES: u32 = 16 * 1024;
/// A refused join by AWS identity is put on the audit record again after so long, or when the reason is another one.
pub const JOIN_REFUSAL_NOTED: Duration = Duration::from_secs(3600);
/// Enrolments that one address may try in a minute; a join by AWS identity takes two.
pub const ENROLMENTS_PER_MINUTE: u32 = 60;
/// A challenge for joining by AWS identity: one round trip and a signature, with time for a look at the credentials.
pub const CHALLENGE: Duration = Duration::from_secs(60);
/// Challenges that wait for their answer, of some 200 bytes each; the oldest give way.
pub const CHALLENGES: usize = 4_096;
/// A signed request to STS: a session token is under 2 KiB today, and AWS does not say how long it may become.
pub const SIGNED_REQUEST_BYTES: usize = 8 * 1024;
/// How far the signature's time may be from the hub's clock: what AWS itself allows (SigV4, "elements of a request").
pub const SIGNATURE_SKEW: Duration = Duration::from_secs(300);
/// Questions to STS at once; the next wait their turn. Each takes some 50 ms.
pub const STS_AT_ONCE: usize = 16;
/// The wait for a turn, and then one question to STS with the whole answer.
pub const STS_CALL: Duration = Duration::from_secs(5);
/// STS's answer is under 1 KiB.
pub const STS_REPLY_BYTES: usize = 8 * 1024;
/// Elements within elements in it; it has four.
pub const STS_REPLY_DEPTH: usize = 8;
/// Idle connections are pinged so often; with the time-out, a dead peer is found in under 30 s.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// A ping unanswered for so long means a dead peer.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The agent's Hello must come within this time after its stream opened.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that wait for one slow stream before it is closed.
pub const STREAM_BACKLOG: usize = 256;

/// Agents' certificates live so long, and are renewed at half of it, ±10 %.
pub const AGENT_CERTIFICATE: Duration = Duration::from_secs(24 * 3600);
/// Operators' certificates: a holiday of three weeks must not lock anybody out; locks act at once anyway.
pub const OPERATOR_CERTIFICATE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The hub's own leaf, renewed by itself.
pub const HUB_CERTIFICATE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The issuing CA: replaced through a trust bundle long before.
pub const CA_CERTIFICATE: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
/// Leaves are valid from so long before their making, for clocks that run behind.
pub const CERTIFICATE_BACKDATE: Duration = Duration::from_secs(300);
/// Join tokens live so long.
pub const JOIN_TOKEN: Duration = Duration::from_secs(3600);

/// Entries of each list in a health report: services, jobs, datasets, reasons. An agent counts 100 jobs apart.
pub const REPORT_LIST: usize = 200;
/// Agents report at least this often.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(30);
/// How often an agent looks at its platform while nothing moves: with the four AWS calls of a look, four calls a minute.
pub const HEALTH_LOOK_REST: Duration = Duration::from_secs(60);
/// How often it looks just after something began to move; a look takes a tenth of the time since then, up to the
/// pause at rest, so that a service that crashes for hours does not cost 50 calls a minute.
pub const HEALTH_LOOK_MOVING: Duration = Duration::from_secs(5);
/// It goes on looking so long after a nudge although nothing moves yet: ECS shows the effect of a call only after
/// some seconds.
pub const HEALTH_LOOK_SETTLE: Duration = Duration::from_secs(20);
/// An agent unheard of for so long is away: one report missed, and the keepalive's verdict.
pub const AWAY_AFTER: Duration = Duration::from_secs(40);
/// First wait between tries to reach the hub.
pub const RECONNECT_MIN: Duration = Duration::from_millis(200);
/// Longest wait between tries.
pub const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// One whole AWS call with the SDK's own retries.
pub const AWS_CALL: Duration = Duration::from_secs(60);
/// One try of an AWS call.
pub const AWS_TRY: Duration = Duration::from_secs(15);
/// Tries of one AWS call, the first included.
pub const AWS_TRIES: u32 = 5;
/// ECS tells a task what it is from the same host.
pub const TASK_METADATA: Duration = Duration::from_secs(5);
/// What it tells: some KiB a container.
pub const TASK_METADATA_BYTES: usize = 256 * 1024;
/// Between two looks at the agent's own service while it is upgraded.
pub const UPGRADE_LOOK: Duration = Duration::from_secs(2);
/// A connection to Dagster's webserver, in the same network, takes a millisecond; while it does not run nobody answers.
pub const DAGSTER_CONNECT: Duration = Duration::from_secs(2);
/// One call of Dagster, its answer included: what it does for one it does with a code server, and that in seconds.
pub const DAGSTER_CALL: Duration = Duration::from_secs(20);
/// Largest answer of Dagster: a thousand runs with their tags are some 2 MiB.
pub const DAGSTER_BYTES: usize = 8 * 1024 * 1024;
/// Runs in one page of Dagster's.
pub const DAGSTER_PAGE: usize = 100;
/// Runs under way that are looked at one by one; of more only the number is told.
pub const DAGSTER_ACTIVE_RUNS: usize = 1_000;
/// Runs that one command lists: with their tags some 150 KiB.
pub const DAGSTER_RUNS: u32 = 300;
/// Length of the name of a job, a location or a tag.
pub const DAGSTER_NAME_BYTES: usize = 255;
/// Length of a run's configuration: pages of it; data belongs into a bucket.
pub const RUN_CONFIG_BYTES: usize = 16 * 1024;
/// Tags that an order gives to a run.
pub const RUN_TAGS: usize = 30;
/// Length of a tag's value.
pub const RUN_TAG_BYTES: usize = 500;
/// Things of one kind that `discover` reads of an account: a platform has about ten, and each costs a call or two, which
/// count against the account's quotas.
pub const DISCOVER_MOST: usize = 500;
/// Snapshots that are listed, the newest first: RDS lets an account have 100 manual ones of a region, and keeps 35 days of
/// automated ones. A page of them is under 100 KiB.
pub const DATABASE_SNAPSHOTS: usize = 300;
/// Length of an object's key (S3 user guide, "Naming Amazon S3 objects").
pub const OBJECT_KEY_BYTES: usize = 1024;
/// A presigned URL is good for so long at most: who has it needs nothing else, and it cannot be taken back.
pub const PRESIGNED_URL: Duration = Duration::from_secs(3600);
/// Length of a prefix that is put in quarantine: some thirty of that length fit into a policy, and hundreds of usual ones.
pub const QUARANTINE_PREFIX_BYTES: usize = 512;
/// Largest policy of a bucket (S3 user guide, "Bucket policies": 20 KB).
pub const BUCKET_POLICY_BYTES: usize = 20 * 1024;
/// Parts of an upload that nobody completed are paid for and seen by nobody; whoever goes on after a week starts anew.
pub const INCOMPLETE_UPLOAD_DAYS: i32 = 7;
/// What was overwritten or deleted can be brought back for so long: a census' whole collection window, and no longer than
/// personal data is needed.
pub const NONCURRENT_VERSION_DAYS: i32 = 90;
/// Arrivals that wait to be handed on, with keys of up to a KiB in memory; what is more stays in the queue.
pub const ARRIVALS_WAITING: usize = 10_000;
/// Messages and arrivals that wait for a person. When there are as many, what is more stays in the queue.
pub const ARRIVALS_PARKED: usize = 1_000;
/// Nothing is received, or listed, when the disk of the book has less free: ten messages of SQS's greatest size, some times
/// over, since a message that cannot be written counts as received all the same.
pub const ARRIVALS_RESERVE_BYTES: u64 = 32 * 1024 * 1024;
/// So much of a message that is parked is kept.
pub const ARRIVAL_BYTES: usize = 64 * 1024;
/// An arrival that was handed on is known again for so long: the longest time that SQS keeps a message.
pub const ARRIVALS_KNOWN: Duration = Duration::from_secs(14 * 24 * 3600);
/// So many of them at most, of some 100 bytes each; the oldest give way.
pub const ARRIVALS_KNOWN_MOST: usize = 100_000;
/// Of each kind are told in one list, so that with the longest keys it fits into an outcome.
pub const ARRIVALS_TOLD: usize = 80;
/// Rules for arrivals: a census has about ten datasets.
pub const ARRIVAL_RULES: usize = 200;
/// Prefixes of a bucket that are told by name, the largest; all further ones are one sum. Four buckets' worth of them is
/// under 160 KiB.
pub const BUCKET_PREFIXES: usize = 100;
/// Length of a prefix that is told; a longer one is cut.
pub const BUCKET_PREFIX_BYTES: usize = 256;
/// Looks for whether the buckets are as they were told to be: S3 shows a new setting after some seconds at most.
pub const BUCKET_LOOKS: u32 = 5;
/// Pages of metrics configurations that are read of one bucket: S3 lets it have 1,000, in pages of 100.
pub const BUCKET_METRICS_PAGES: u32 = 10;
/// A look at a Dagster that comes up or goes: at rest it answers within a second.
pub const POWER_LOOK: Duration = Duration::from_secs(5);
/// One order of the power controller, or a look at a Dagster at work: others wait for it.
pub const POWER_ACT: Duration = Duration::from_secs(60);
/// Bytes of a name in a record of usage; what Dagster calls a job is seldom longer than 60.
pub const USAGE_LABEL_BYTES: usize = 100;
/// Records of usage in one message: some 60 bytes each, and one write of the hub's store.
pub const USAGE_BATCH: usize = 500;
/// Different records of usage of one hour of one agent. More jobs and causes than that are told as others.
pub const USAGE_KEYS_PER_HOUR: usize = 400;
/// An agent keeps its records for so long, and a hub takes none that is older.
pub const USAGE_KEPT: Duration = Duration::from_secs(35 * 24 * 3600);
/// Log groups whose bytes are metered: a service has one or two, and each costs when CloudWatch is asked.
pub const USAGE_LOG_GROUPS: usize = 50;
/// Months of a bill in one message: the present one and the twelve before it, which Cost Explorer has of every account.
pub const BILL_MONTHS: usize = 13;
/// What a month of one account may cost, in millionths: ten million of any currency is an error of whoever told it.
pub const BILL_MICROS: u64 = 10_000_000 * 1_000_000;
/// How an agent was is kept by five minutes for so long: last night, and the one to compare it with.
pub const HISTORY_SLOTS_KEPT: Duration = Duration::from_secs(2 * 24 * 3600);
/// By the hour for so long: as usage is.
pub const HISTORY_HOURS_KEPT: Duration = Duration::from_secs(60 * 24 * 3600);
/// By the day for so long: three years, as usage is.
pub const HISTORY_DAYS_KEPT: Duration = Duration::from_secs(3 * 366 * 24 * 3600);
/// Phases of power with their causes that one span of an agent's history tells apart; agents know some ten causes. Further
/// ones are others, so that a span has 3 KiB at most, whatever an agent tells, and 150 bytes usually.
pub const HISTORY_CAUSES: usize = 20;
/// Spans in one answer: all hours that are kept, or all days.
pub const HISTORY_SPANS: u32 = 1_500;
/// Looks at the fleet are 5 s apart. After so long without one the hub stood still, or its clock was set, and what happened
/// meanwhile is not known.
pub const HISTORY_GAP: Duration = Duration::from_secs(60);
/// Shortest passphrase of a key file: below eight characters even a slow derivation is guessed through (NIST SP 800-63B).
pub const PASSPHRASE_CHARACTERS: usize = 8;
/// Longest passphrase, and largest file of one.
pub const PASSPHRASE_BYTES: usize = 1024;
/// Memory that opening a key file may take; ours take 16 MiB, and other programs up to 128.
pub const SCRYPT_BYTES: u64 = 256 * 1024 * 1024;
/// Passes over that memory; ours take five.
pub const SCRYPT_PASSES: u64 = 32;
/// Rounds of a key file of other programs: OWASP has 600,000, and ten million take seconds.
pub const PBKDF2_ROUNDS: u32 = 10_000_000;
/// One try to have KMS sign, which takes some 10 ms.
pub const KMS_TRY: Duration = Duration::from_millis(1500);
/// Calls to KMS at a time: at 10 ms each more than its usual quota for such keys, 1,000 a second in all of an account.
pub const KMS_CALLS: usize = 16;
/// What could not be signed is tried again after so long at first, and after twice that each further time.
pub const SIGN_PAUSE: Duration = Duration::from_millis(200);
/// And after so long at most: agents wait for nothing else.
pub const SIGN_PAUSE_MOST: Duration = Duration::from_secs(5);
/// An operator who was not seen for so long is flagged: whoever does not work here any more is found at the latest then.
pub const OPERATOR_UNUSED: Duration = Duration::from_secs(90 * 24 * 3600);
/// A key that ends within this time is flagged: root keys have to sign for its successor.
pub const KEY_EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 3600);
/// When an operator was last seen is written at most this often; a restart forgets no more than that.
pub const OPERATOR_SEEN: Duration = Duration::from_secs(5 * 60);
/// Actions that one agent runs side by side.
pub const ACTIONS_AT_ONCE: usize = 16;
/// Outcomes that one agent keeps unacknowledged before it lets no more commands in.
pub const JOURNAL_UNSENT: usize = 10_000;
/// Events kept for a watcher who is slow. Half of that behind, it misses steps of progress; wholly behind, it is dropped
/// and asks again. Times 64 watchers of one command that is some 5 MiB.
pub const WATCH_BACKLOG: usize = 256;
/// Watchers of one command: a whole team with a terminal each. The oldest gives way.
pub const WATCHERS_PER_COMMAND: usize = 64;
/// Length of a step of progress: one line of a terminal.
pub const STEP_BYTES: usize = 200;
/// Length of an agent's version, and of the random name of one of its runs.
pub const VERSION_BYTES: usize = 64;
/// Length of each text of an audit entry, which is kept for ever: labels and groups of one agent are under 6 KiB.
pub const AUDIT_TEXT_BYTES: usize = 8 * 1024;
/// Spans that wait to be sent, some 500 bytes each; more are dropped.
pub const TRACE_QUEUE: usize = 2_048;
/// Spans in one message to the collector.
pub const TRACE_BATCH: usize = 512;
/// How often they are sent.
pub const TRACE_INTERVAL: Duration = Duration::from_secs(1);
/// One message to the collector, with the connection to it.
pub const TRACE_EXPORT: Duration = Duration::from_secs(5);
/// For what is left at the end of a process: an operator waits for it, where the collector is dead.
pub const TRACE_FLUSH: Duration = Duration::from_secs(2);
/// A process gets so long to end its work after SIGTERM; ECS kills after 30 s.
pub const DRAIN: Duration = Duration::from_secs(20);
