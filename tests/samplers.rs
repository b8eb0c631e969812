//! The engine's samplers over SP-NAS's own space, through the binary.

use spnas_actors::event::Event;

mod tiny;

use tiny::{Tiny, code};

#[test]
fn samplers_of_the_engine_search_networks_too_and_their_children_inherit() {
    let tiny = Tiny::new();
    for kind in ["NSGA2", "LocalSearch", "Forest", "TPE"] {
        let named = format!("serial.search_algorithm.type={kind}");
        let short = [
            &named,
            "serial.search_algorithm.start=2",
            "serial.search_algorithm.max_sample=6",
            "serial.trainer.epochs=1",
            "serial.early_stopping.type=none",
        ];
        let (exit, said) = code(&tiny.run(kind, &short).output().unwrap());
        assert_eq!(exit, Some(0), "{said}");
        let (mut finished, mut inherited) = (0, 0);
        for transition in tiny.transitions(kind) {
            finished += usize::from(matches!(transition.event, Event::Finished(_)));
            inherited +=
                usize::from(matches!(transition.event, Event::Proposed(proposed) if proposed.parent.is_some()));
        }
        assert_eq!(finished, 6, "{kind}");
        assert!(inherited >= 3, "{kind}: {inherited}");
    }
}
