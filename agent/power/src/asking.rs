//! How much of a Dagster that is being woken is asked: its code locations are cheap to tell, the rest is not, and the machine
//! has other things to do just then.

use super::{
    observation::{Loading, Location},
    state::State,
};

/// What was asked before.
#[derive(Debug, Default)]
pub struct Asking {
    /// The wake, by its generation, whose first look that found the code loaded has been.
    loaded: u64,
}

impl Asking {
    /// Whether the rest is to be asked as well, where the code locations are known to be so: not before they are loaded, or
    /// given up, and not at the first look that finds them loaded while files wait, which are handed on first.
    pub fn rest(&mut self, state: &State, code: &[Location], waits: bool) -> bool {
        if !code.iter().all(|one| one.state == Loading::Loaded || state.broken.contains(&one.name)) {
            return false;
        }
        let first = std::mem::replace(&mut self.loaded, state.generation) != state.generation;
        !(first && waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_asked_once_the_code_is_loaded_and_what_waits_was_handed_on() {
        let of = |state| [Location { name: "loc".into(), state }];
        let (mut asking, mut state) = (Asking::default(), State::default());
        assert!(!asking.rest(&state, &of(Loading::Loading), false));
        assert!(!asking.rest(&state, &of(Loading::Failed), true));
        assert!(!asking.rest(&state, &of(Loading::Loaded), true));
        assert!(
            asking.rest(&state, &of(Loading::Loaded), true),
            "what can't be handed on keeps nothing from being awake"
        );
        state.generation += 1;
        assert!(asking.rest(&state, &of(Loading::Loaded), false));
        state.broken.insert("loc".into());
        assert!(asking.rest(&state, &of(Loading::Failed), false));
    }
}
