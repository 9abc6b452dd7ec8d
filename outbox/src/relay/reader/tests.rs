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

#[test]
fn a_bucket_that_comes_during_a_reading_is_read_from_its_beginning() {
    let (mut reader, mut window) = (Reader::new(&RelayOptions::default()), Window::new(64, 1));
    reader.keep(&HashSet::from([1]));
    let (reading, range) = reader.forward(8).unwrap();
    reader.keep(&HashSet::from([1, 2]));
    let scan = window.gone.begin();
    let page = Page { drawn: 500, ..Page::default() };
    reader.absorb(&mut window, scan, (reading, &range), &page, Duration::ZERO);
    reader.note_drawn(500);
    let (_, range) = reader.forward(8).expect("there is more");
    assert_eq!((range.buckets, range.after[1], range.tail), (vec![1, 2], 0, None));
}

/// As if this time had passed.
fn pass_by(reader: &mut Reader, time: Duration) {
    reader.forward_due -= time;
    reader.drawn.iter_mut().for_each(|(at, _)| *at -= time);
    reader.passes.iter_mut().for_each(|pass| pass.due -= time);
}

#[test]
fn passes_look_up_to_what_was_drawn_though_the_end_was_read_no_further() {
    let (mut reader, mut window) = (Reader::new(&RelayOptions::default()), Window::new(64, 1));
    reader.keep(&HashSet::from([1]));
    for drawn in [99, 99, 100, 100] {
        let (reading, range) = reader.forward(8).expect("it is due");
        let scan = window.gone.begin();
        // 100 is still open, or its event is of another hour.
        let page = Page { drawn, ..Page::default() };
        reader.absorb(&mut window, scan, (reading, &range), &page, Duration::ZERO);
        pass_by(&mut reader, NEAR * 4);
    }
    let (_, range) = reader.forward(8).expect("it is due");
    assert_eq!(range.tail.map(|(after, _)| after), Some(99), "the end is read on from where it was read to");
    pass_by(&mut reader, Duration::from_secs(2));
    let looked_to: Vec<_> = (0..8).filter_map(|_| Some(reader.pass()?.1.until)).collect();
    assert!(looked_to.contains(&vec![100]), "{looked_to:?}");
}
