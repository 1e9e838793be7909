//! The power decision in simulated time. `world` is one LA: Dagster, ECS, files that arrive and people; `agent` looks at it and
//! does what the decision says, with faults; `judge` counts what must not happen; `trace` is what happens in a year; `price`
//! says what it costs. Event-driven: while nothing happens nothing is computed.

pub mod agent;
pub mod clock;
pub mod judge;
pub mod price;
pub mod run;
pub mod trace;
pub mod world;
