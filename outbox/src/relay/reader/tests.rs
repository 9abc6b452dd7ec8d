//! When to read.

use super::*;

const LONG: Duration = Duration::from_secs(600);

#[test]
fn it_reads_when_it_has_buckets_and_new_ones_at_once() {
    let options = RelayOptions { poll_min: LONG, poll_max: LONG, ..RelayOptions::default() };
    let (mut reader, mut window) = (Reader::new(&options), Window::new(64, 1));
    assert_eq!(reader.forward_due(), None, "without buckets there is nothing to wake up for");
    reader.keep(&HashSet::from([1]));
    let (reading, range) = reader.forward(8).unwrap();
    let scan = window.gone.begin();
    let page = Page::default();
    reader.absorb(&mut window, scan, (reading, &range), &page, Duration::ZERO);
    reader.keep(&HashSet::from([1]));
    assert!(reader.forward_due().is_some_and(|due| due > Instant::now() + LONG / 2), "it has read this one");
    reader.keep(&HashSet::from([1, 2]));
    assert!(reader.forward_due().is_some_and(|due| due <= Instant::now()));
    reader.keep(&HashSet::new());
    assert_eq!(reader.forward_due(), None);
}

#[test]
fn a_failed_reading_is_not_put_off_as_long_as_a_poll() {
    let options = RelayOptions { poll_max: LONG, ..RelayOptions::default() };
    let (mut reader, mut window) = (Reader::new(&options), Window::new(64, 1));
    reader.keep(&HashSet::from([1]));
    let (reading, _) = reader.forward(8).unwrap();
    let scan = window.gone.begin();
    reader.failed(&mut window, scan, reading);
    assert!(reader.forward_due().is_some_and(|due| due <= Instant::now() + options.outage_delay_max));
}
