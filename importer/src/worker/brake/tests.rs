use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A brake, a clock and objects, which are named by dataset and directory, as `0a`.
struct Bench {
    brake: Brake,
    start: Instant,
    first_failed: HashMap<String, Instant>,
}

impl Bench {
    fn new(until_empty: bool) -> Self {
        Self { brake: Brake::new(MINUTE, until_empty), start: Instant::now(), first_failed: HashMap::new() }
    }

    fn at(&self, secs: u64) -> Instant {
        self.start + Duration::from_secs(secs)
    }

    /// An object (class and number) fails; says when it is decided, or that it fails.
    fn fail(&mut self, secs: u64, object: &str, failure: &Failure) -> String {
        let now = self.at(secs);
        let is_first = !self.first_failed.contains_key(object);
        let first_failed = *self.first_failed.entry(object.to_owned()).or_insert(now);
        let (decision, _) = self.brake.failed(&class(object), failure, Seen { first_failed, is_first }, now);
        match decision {
            Decision::Fail => {
                if !is_first {
                    self.brake.let_go(&Cause { dataset: class(object).dataset, reason: failure.reason });
                }
                "fails".into()
            }
            Decision::Wait(by) => format!("waits until {}", by.duration_since(self.start).as_secs()),
        }
    }

    fn import(&mut self, begun: u64, object: &str) {
        let begun = self.at(begun);
        self.brake.imported(&class(object), begun);
    }

    fn ask(&mut self, secs: u64, ticket: u64) -> String {
        let now = self.at(secs);
        match self.brake.ask(ticket, now) {
            Answer::Go => "go".into(),
            Answer::Try(places) => {
                self.brake.leave(ticket);
                format!("try {}", places.len())
            }
            Answer::Wait(_) => "wait".into(),
        }
    }
}

fn class(object: &str) -> Class {
    Class { dataset: object[..1].into(), prefix: object[1..2].to_owned() }
}

fn denied() -> Failure {
    Failure::new(Reason::Access, "no right to write").of(Scope::Dataset)
}

fn forbidden() -> Failure {
    Failure::new(Reason::Access, "access denied").of(Scope::Prefix)
}

#[test]
fn nothing_fails_within_a_minute_of_the_first_and_then_one_does() {
    let mut bench = Bench::new(false);
    for second in 0..60 {
        assert_eq!(bench.fail(second, &format!("0a{second}"), &denied()), "waits until 60");
    }
    assert_eq!(bench.fail(60, "0a7", &denied()), "fails");
    // The next after two minutes, then after four, eight and ten.
    let mut failed_at = Vec::new();
    for second in (61..4000).step_by(10) {
        if bench.fail(second, "0a8", &denied()) == "fails" {
            failed_at.push(second);
            bench.first_failed.remove("0a8");
        }
    }
    assert_eq!(failed_at, [181, 421, 901, 1501, 2101, 2701, 3301, 3901]);
}

#[test]
fn what_is_over_within_the_minute_leaves_nothing_behind() {
    let mut bench = Bench::new(false);
    for object in ["0a1", "0a2", "0a3", "0a4"] {
        assert_eq!(bench.fail(0, object, &denied()), "waits until 60");
    }
    let ticket = bench.brake.queue(&class("0a5"));
    assert_eq!(bench.ask(0, ticket), "wait");
    bench.import(10, "0a1");
    assert_eq!(bench.ask(10, ticket), "go", "the others go on at once");
    for _ in 0..4 {
        bench.brake.let_go(&Cause { dataset: "0".into(), reason: Reason::Access });
    }
    bench.brake.leave(ticket);
    assert!(bench.brake.causes.is_empty() && bench.brake.gates.is_empty());
}

#[test]
fn an_object_whose_neighbours_are_imported_fails_alone_after_a_minute() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.fail(0, "0a1", &forbidden()), "waits until 60");
    bench.import(5, "0a2");
    assert_eq!(bench.fail(20, "0a1", &forbidden()), "waits until 60");
    assert_eq!(bench.fail(30, "0b3", &forbidden()), "waits until 80", "nothing was imported since");
    bench.import(40, "0a4");
    assert_eq!(bench.fail(60, "0a1", &forbidden()), "fails");
    assert_eq!(bench.fail(61, "0b3", &forbidden()), "waits until 90", "it has a minute of its own");
    assert_eq!(bench.fail(90, "0b3", &forbidden()), "fails");
}

#[test]
fn an_import_that_was_begun_before_the_first_failure_proves_nothing() {
    let mut bench = Bench::new(false);
    for object in ["0a1", "0a2", "0a3"] {
        bench.fail(10, object, &denied());
    }
    bench.import(9, "0a4");
    assert!(bench.brake.is_closed(&class("0a5")));
    assert_eq!(bench.fail(70, "0a1", &denied()), "fails");
    assert_eq!(bench.fail(71, "0a2", &denied()), "waits until 190", "one sample, not every object");
}

#[test]
fn a_new_trouble_has_a_minute_of_its_own_though_an_object_waits_from_before() {
    let mut bench = Bench::new(false);
    bench.fail(0, "0a1", &denied());
    bench.import(50, "0a2");
    assert_eq!(bench.fail(100, "0a3", &denied()), "waits until 160");
}

#[test]
fn one_bad_object_stops_nobody_and_three_are_tried_one_at_a_time_with_growing_pauses() {
    let mut bench = Bench::new(false);
    for second in 0..9 {
        bench.fail(second, "0a1", &denied());
    }
    assert!(!bench.brake.is_closed(&class("0a2")), "however often it fails");
    bench.fail(9, "0a2", &denied());
    bench.fail(10, "0b3", &denied());
    let tickets = ["0a1", "0b3", "0c4"].map(|object| bench.brake.queue(&class(object)));
    let mut tried_at = Vec::new();
    for second in 10..60 {
        if bench.ask(second, tickets[1]) != "wait" {
            panic!("the one that waits longest comes first");
        }
        if bench.ask(second, tickets[0]) == "wait" {
            continue;
        }
        tried_at.push(second);
        assert_eq!(bench.ask(second, tickets[1]), "wait", "one at a time");
        let places: Vec<Place> = bench.brake.gates.keys().cloned().collect();
        bench.fail(second, "0a1", &denied());
        let now = bench.at(second);
        bench.brake.tried(&places, now);
        bench.brake.waiting.insert(tickets[0], class("0a1"));
    }
    assert_eq!(tried_at, [11, 13, 17, 25, 41]);
    assert_eq!(bench.ask(59, tickets[0]), "wait");
    assert_eq!(bench.ask(60, tickets[0]), "try 1", "the sample is due, whatever the pause");
    assert!(!bench.brake.is_closed(&class("1a")), "another dataset is free");
}

#[test]
fn each_cause_has_a_minute_a_sample_and_a_gate_of_its_own() {
    let mut bench = Bench::new(false);
    let missing = || Failure::new(Reason::Schema, "no such table").of(Scope::Dataset);
    assert_eq!(bench.fail(0, "0a1", &denied()), "waits until 60");
    assert_eq!(bench.fail(1, "0a2", &denied()), "waits until 60");
    assert_eq!(bench.fail(50, "0a3", &missing()), "waits until 110");
    assert!(!bench.brake.is_closed(&class("0a4")), "two and one");
    assert_eq!(bench.fail(60, "0a1", &denied()), "fails");
    assert_eq!(bench.fail(110, "0a3", &missing()), "fails");
}

#[test]
fn the_next_is_tried_at_once_when_one_does_not_fail_as_those_before() {
    let mut bench = Bench::new(false);
    for object in ["0a1", "0a2", "0a3"] {
        bench.fail(0, object, &denied());
    }
    let tickets = [bench.brake.queue(&class("0a4")), bench.brake.queue(&class("0a5"))];
    assert_eq!(bench.ask(1, tickets[0]), "try 1");
    let places: Vec<Place> = bench.brake.gates.keys().cloned().collect();
    let now = bench.at(2);
    bench.brake.tried(&places, now);
    assert_eq!(bench.ask(2, tickets[1]), "try 1");
}

#[test]
fn a_directory_that_is_closed_does_not_close_the_others() {
    let mut bench = Bench::new(false);
    for object in ["0a1", "0a2", "0a3"] {
        bench.fail(0, object, &forbidden());
    }
    assert!(bench.brake.is_closed(&class("0a")) && !bench.brake.is_closed(&class("0b")));
    bench.import(1, "0b4");
    assert!(bench.brake.is_closed(&class("0a")), "it says nothing of the other");
    for object in "bcdefghijklm".chars().map(|prefix| format!("0{prefix}1")) {
        bench.fail(2, &object, &forbidden());
    }
    assert!(bench.brake.is_closed(&class("0z")), "many directories, one after the other");
}

#[test]
fn a_run_until_the_queue_is_empty_waits_for_nobody_after_the_first_sample() {
    let mut bench = Bench::new(true);
    for object in ["0a1", "0a2", "0a3", "0a4"] {
        assert_eq!(bench.fail(0, object, &denied()), "waits until 60");
    }
    let ticket = bench.brake.queue(&class("0a4"));
    assert_eq!(bench.fail(60, "0a1", &denied()), "fails");
    assert_eq!(bench.ask(60, ticket), "go");
    assert_eq!(bench.fail(60, "0a2", &denied()), "fails");
}

#[test]
fn what_is_the_objects_own_fails_at_once_and_without_patience_everything_does() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.fail(0, "0a1", &Failure::new(Reason::Corrupt, "no magic")), "fails");
    bench.brake.patience = Duration::ZERO;
    assert_eq!(bench.fail(0, "0a2", &denied()), "fails");
    assert!(bench.brake.causes.is_empty() && bench.brake.gates.is_empty());
}
