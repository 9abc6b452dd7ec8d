//! Runs the checker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model as _};

pub(crate) use crate::model::Bounds;
use crate::model::Model;
use crate::property;
use crate::rules::Rules;

/// Walks every state within bounds, and fails at the first that breaks a property. Returns the names of the steps taken.
pub(crate) fn holds(name: &str, bounds: Bounds, rules: Rules) -> BTreeSet<&'static str> {
    let model = Model::new(bounds, rules);
    let taken = Arc::clone(&model.taken);
    if let Some((property, way)) = run(name, model, HasDiscoveries::AnyFailures).first() {
        panic!("{name}: broken: {property}, by {way}");
    }
    taken.lock().unwrap().clone()
}

/// Walks the states up to the first that breaks this property.
pub(crate) fn finds(name: &str, bounds: Bounds, rules: Rules, property: &'static str) {
    let found = run(name, Model::new(bounds, rules), HasDiscoveries::AnyOf(BTreeSet::from([property])));
    assert!(found.iter().any(|(broken, _)| *broken == property), "{name}: found {found:?}, not {property}");
}

fn run(name: &str, model: Model, until: HasDiscoveries) -> Vec<(&'static str, String)> {
    let started = Instant::now();
    let checker = model.checker().threads(2).finish_when(until).spawn_bfs().join();
    let ways = property::all().into_iter().filter_map(|property| {
        let way = checker.discovery(property.name)?;
        Some((property.name, format!("{:?} to {:?}", way.clone().into_actions(), way.last_state())))
    });
    let ways: Vec<_> = ways.collect();
    println!(
        "{name}: {} states, {} transitions, depth {}, {:.1} s, broken: {:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64(),
        ways.iter().map(|(property, _)| *property).collect::<Vec<_>>(),
    );
    ways
}
