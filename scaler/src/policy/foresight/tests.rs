//! Floods as they are learnt, foreseen, waited for in vain and accounted for.

use super::*;
use crate::policy::tests::at;

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

fn terms() -> Terms {
    Terms { share: 0.1, promised_secs: 900.0, start_up_secs: 45.0, shrink_window_secs: 120.0, slots_per_worker: 1 }
}

fn flood(secs: f64) -> Flood {
    Flood { begins: at(secs), arrived: [20_000.0; HORIZONS.len()], job_secs: 1.0 }
}

/// Returns what is known after floods at these times: 20,000 objects of a second each, all at once.
pub fn after(times: impl IntoIterator<Item = f64>) -> Foresight {
    Foresight { floods: times.into_iter().map(flood).collect(), ..Foresight::default() }
}

fn asked(foresight: &mut Foresight, secs: f64) -> Option<u32> {
    foresight.bound(&terms(), &PoolSize::default(), at(secs))?.at_least
}

/// Feeds moments ten seconds apart in which so many objects wait and so many are finished.
fn feed(foresight: &mut Foresight, from: f64, moments: impl IntoIterator<Item = (f64, f64)>) {
    for (i, (backlog, done)) in moments.into_iter().enumerate() {
        let moment = Moment {
            at: at(from + 10.0 * i as f64),
            backlog: Some(backlog),
            done: Some(done),
            done_secs: done,
            age_secs: None,
            job_secs: 1.0,
            start_up_secs: 45.0,
        };
        foresight.absorb(&moment, &terms());
    }
}

#[test]
fn third_flood_in_a_row_makes_the_forecast_of_the_fourth() {
    for (times, is_foreseen) in [
        (vec![2.0 * HOUR, DAY + 2.0 * HOUR, 2.0 * DAY + 2.0 * HOUR], true),
        (vec![DAY + 2.0 * HOUR, 2.0 * DAY + 2.0 * HOUR], false),
        (vec![2.0 * HOUR, DAY + 3.0 * HOUR, 2.0 * DAY + 2.0 * HOUR], false),
    ] {
        let mut foresight = after(times);
        let due = 3.0 * DAY + 2.0 * HOUR;
        assert_eq!(asked(&mut foresight, due - 60.0), None, "so early they would only wait");
        assert_eq!(asked(&mut foresight, due - 45.0).is_some(), is_foreseen);
    }
    let mut weekly = after((0..3).map(|week| f64::from(week) * 7.0 * DAY));
    assert_eq!(asked(&mut weekly, 21.0 * DAY - 45.0), Some(127), "a burst is worked off in 27 % of 585 s");
}

#[test]
fn day_that_is_left_out_each_week_is_not_foreseen() {
    // From Monday to Friday: the stories begin on a Thursday.
    let weekdays = (0..21).filter(|day| !matches!((day + 3) % 7, 5 | 6)).map(|day| f64::from(day) * DAY);
    let mut foresight = after(weekdays);
    let (thursday, saturday, monday) = (21.0 * DAY, 23.0 * DAY, 25.0 * DAY);
    assert!(asked(&mut foresight, thursday - 45.0).is_some());
    foresight.floods.extend([flood(thursday), flood(thursday + DAY)]);
    assert_eq!(asked(&mut foresight, saturday - 45.0), None);
    assert!(asked(&mut foresight, monday - 45.0).is_some(), "three Mondays");
}

#[test]
fn flood_that_stays_away_is_paid_for_by_later_ones() {
    let mut foresight = after([0.0, DAY, 2.0 * DAY]);
    let due = 3.0 * DAY;
    let size = asked(&mut foresight, due - 45.0).unwrap();
    let waiting = PoolSize { idle: size, ..PoolSize::default() };
    for secs in [-35.0, 0.0, 29.0] {
        assert!(foresight.bound(&terms(), &waiting, at(due + secs)).is_some(), "{secs}");
    }
    assert_eq!(foresight.bound(&terms(), &waiting, at(due + 31.0)), None);
    assert_eq!(foresight.bound(&terms(), &PoolSize::default(), at(due + 41.0)), None);
    assert_eq!(foresight.debt_secs, f64::from(size) * 76.0);

    // The row begins anew, and until each flood's share has paid none is foreseen.
    foresight.floods.extend([flood(4.0 * DAY), flood(5.0 * DAY), flood(6.0 * DAY)]);
    assert_eq!(asked(&mut foresight, 7.0 * DAY - 45.0), None);
    foresight.debt_secs = 0.0;
    assert!(asked(&mut foresight, 7.0 * DAY - 45.0).is_some());
}

#[test]
fn share_pays_and_savings_are_bounded() {
    let mut foresight = after([]);
    foresight.debt_secs = 3000.0;
    // 20,000 s and 34 workers' starts and ends of 165 s.
    let usual_secs = 20_000.0 + 20_000.0 / 585.0 * 165.0;
    let burst = || [(0.0, 0.0), (0.0, 0.0), (20_000.0, 0.0)].into_iter().chain((0..100).map(|_| (0.0, 200.0)));
    for n in 1..=8 {
        feed(&mut foresight, f64::from(n) * DAY, burst());
        let expected = (3000.0 - 0.1 * usual_secs * f64::from(n)).max(-3.0 * 0.1 * usual_secs);
        assert!(
            (foresight.debt_secs - expected).abs() < 0.01 * f64::from(n) * usual_secs,
            "{n}: {} {expected}",
            foresight.debt_secs
        );
    }
}

#[test]
fn forecast_that_would_be_dear_or_bring_little_is_none() {
    let mut late_by_minutes = after([0.0, DAY + 240.0, 2.0 * DAY + 480.0]);
    assert_eq!(asked(&mut late_by_minutes, 3.0 * DAY - 45.0), None, "127 workers would wait for up to eight minutes");
    let mut foresight = after([0.0, DAY, 2.0 * DAY]);
    let dear = Terms { share: 0.001, ..terms() };
    let unforeseen = foresight.bound(&dear, &PoolSize::default(), at(3.0 * DAY - 45.0)).unwrap().at_least;
    assert!(unforeseen < Some(127), "{unforeseen:?}: what the ends of an unforeseen flood cost is there to be spent");
    let mut foresight = after([0.0, DAY, 2.0 * DAY]);
    let short = Terms { promised_secs: 60.0, ..terms() };
    assert_eq!(foresight.bound(&short, &PoolSize::default(), at(3.0 * DAY - 45.0)), None, "no start fits");
    let endless = Terms { promised_secs: f64::MAX, start_up_secs: 1e300, ..terms() };
    let one = after([0.0, DAY, 2.0 * DAY]).bound(&endless, &PoolSize::default(), at(3.0 * DAY));
    assert_eq!(one.and_then(|bound| bound.at_least), Some(1), "the search has an end, and so has the calendar");
    foresight.floods.iter_mut().for_each(|flood| flood.job_secs = 300.0);
    assert_eq!(asked(&mut foresight, 3.0 * DAY - 45.0), None, "objects that take half of the time it may take");
}

#[test]
fn flood_is_known_by_its_beginning_and_what_had_arrived() {
    let mut foresight = Foresight::default();
    let calm = (0..360).map(|_| (5.0, 50.0));
    feed(&mut foresight, 0.0, calm);
    assert!(foresight.calm > 4.5, "{}", foresight.calm);
    assert_eq!((foresight.floods.len(), &foresight.rising), (0, &None), "calm is no flood when it is first seen");

    // 100 a second for five minutes above the calm 5, of which workers take 70.
    let begins = 3600.0;
    let flood = (0..120).map(|tick| {
        let arrived = 1050.0 * f64::from(tick.min(30)) + 50.0 * f64::from((tick - 30).max(0));
        let done = 700.0 * f64::from(tick);
        ((arrived - done).max(0.0), if arrived > done { 700.0 } else { 50.0 })
    });
    feed(&mut foresight, begins, flood);
    let [known] = foresight.floods.make_contiguous() else { panic!("{:?}", foresight.floods) };
    assert!(elapsed_secs(at(begins), known.begins) <= 10.0, "{known:?}");
    let all = known.arrived[HORIZONS.len() - 1];
    assert!((27_000.0..34_000.0).contains(&all), "{known:?}");
    assert!((known.arrived[1] / all - 0.45).abs() < 0.15, "within two minutes: {known:?}");
    assert!(known.arrived[3] > 0.9 * all, "{known:?}");
}

#[test]
fn one_empty_reading_is_no_calm_and_an_unread_queue_no_flood() {
    let mut foresight = Foresight::default();
    let backlog =
        (0..300).map(|tick| if tick < 2 { (0.0, 0.0) } else { (if tick == 150 { 0.0 } else { 50_000.0 }, 100.0) });
    feed(&mut foresight, 0.0, backlog);
    assert_eq!(foresight.floods.len(), 1, "a backlog that stays is one flood: {:?}", foresight.floods);

    let mut foresight = Foresight::default();
    feed(&mut foresight, 0.0, [(0.0, 0.0), (0.0, 0.0)]);
    let unread = Moment {
        at: at(20.0),
        backlog: None,
        done: Some(0.0),
        done_secs: 0.0,
        age_secs: Some(1e6),
        job_secs: 1.0,
        start_up_secs: 45.0,
    };
    foresight.absorb(&unread, &terms());
    assert_eq!(foresight.rising, None);

    // A flood of which some was finished while the ledger could not be read.
    feed(&mut foresight, 30.0, [(9000.0, 0.0)]);
    assert!(foresight.rising.is_some());
    foresight.absorb(&Moment { at: at(40.0), done: None, ..unread }, &terms());
    feed(&mut foresight, 50.0, vec![(9000.0, 0.0); 120]);
    assert_eq!((foresight.floods.len(), foresight.rising), (0, None));
}

#[test]
fn beginning_is_when_the_oldest_message_was_sent() {
    let mut foresight = Foresight::default();
    feed(&mut foresight, 0.0, [(0.0, 0.0), (0.0, 0.0), (9000.0, 0.0)]);
    let moment = |secs: f64, age_secs: f64| Moment {
        at: at(secs),
        backlog: Some(9000.0),
        done: Some(10.0),
        done_secs: 10.0,
        age_secs: Some(age_secs),
        job_secs: 1.0,
        start_up_secs: 45.0,
    };
    foresight.absorb(&moment(90.0, 85.0), &terms());
    assert_eq!(foresight.rising.as_ref().unwrap().flood.begins, at(5.0));
    // Nor does a figure that is no age make a date that does not exist.
    foresight.absorb(&moment(95.0, 1e300), &terms());
    // A message of another day begins no flood of today.
    foresight.absorb(&moment(100.0, 1e5), &terms());
    assert_eq!(foresight.rising.as_ref().unwrap().flood.begins, at(20.0 - SEEN_WITHIN_SECS / 2.0));
}

#[test]
fn what_is_remembered_is_bounded_and_kept_as_json() {
    let mut foresight = Foresight::default();
    for n in 0..200 {
        let burst = [(0.0, 0.0), (0.0, 0.0), (2000.0, 0.0)].into_iter().chain((0..100).map(|_| (0.0, 20.0)));
        feed(&mut foresight, f64::from(n) * HOUR, burst);
    }
    assert_eq!(foresight.floods.len(), MOST_FLOODS);
    feed(&mut foresight, 40.0 * DAY, [(0.0, 0.0), (0.0, 0.0), (2000.0, 0.0)].into_iter().chain(vec![(0.0, 0.0); 100]));
    assert_eq!(foresight.floods.len(), 1, "floods of a month ago");
    let json = serde_json::to_string(&foresight).unwrap();
    assert_eq!(serde_json::from_str::<Foresight>(&json).unwrap(), foresight);
    assert_eq!(serde_json::from_str::<Foresight>("{}").unwrap(), Foresight::default());
}

#[test]
fn past_decisions_are_learnt_from_once() {
    let policy = crate::policy::stories::Story::deadline(0).policy;
    let policy = Policy { foresight: 0.1, ..policy };
    let moment = |secs: f64, backlog: f64| Moment {
        at: at(secs),
        backlog: Some(backlog),
        done: Some(0.0),
        done_secs: 0.0,
        age_secs: None,
        job_secs: 1.0,
        start_up_secs: 45.0,
    };
    let mut foresight = after([2.0 * DAY]);
    let now = at(3.0 * DAY);
    assert_eq!(foresight.past_after(now), Some(now - TimeDelta::days(KEPT_DAYS)));
    for (day, is_last) in [(0.0, false), (1.0, false), (2.0, true)] {
        let begins = day * DAY;
        let burst =
            |tick: i32| moment(begins + 10.0 * f64::from(tick), if (2..50).contains(&tick) { 9000.0 } else { 0.0 });
        let moments: Vec<_> = (0..150).map(burst).collect();
        foresight.recall(&policy, &moments, is_last);
        if !is_last {
            assert_eq!(foresight.past_after(now), Some(at(begins + 1490.0)));
        }
    }
    assert_eq!(foresight.past_after(now), None);
    let begins: Vec<_> = foresight.floods.iter().map(|flood| flood.begins).collect();
    assert_eq!(begins, [at(20.0), at(DAY + 20.0), at(2.0 * DAY)], "what it saw itself it keeps");
}
