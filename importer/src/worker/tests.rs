//! A worker over queues and stores in memory.

use super::dead_letter::Failed;
use super::*;
use crate::{
    import::Settled,
    load::Sessions,
    object::memory::MemoryStore,
    outcome::{Failure, Outcome, Reason},
    queue::memory::MemoryQueue,
    route::{Route, Routed},
};
use std::sync::atomic::Ordering;
use tokio::time::sleep;

/// A worker whose database is down.
pub(super) fn worker(queue: &Arc<MemoryQueue>) -> Worker {
    let config = Config::default();
    let sessions = Sessions::new(|| Err::<service::postgres::Server, _>(anyhow::anyhow!("the database is down")));
    let store = Arc::new(MemoryStore::default());
    let importer = Importer::new(config.clone(), store, sessions, "w".into(), None).expect("no patterns");
    let shared = Arc::clone(queue) as Arc<dyn Queue>;
    let metrics = Arc::new(Metrics::new(&[]));
    Worker::new(shared, Arc::new(importer), config, Arc::default(), metrics, Surroundings::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_too_long_is_sent_with_less_and_holds_nothing() {
    for (body_bytes, kept_whole) in [(49_990, true), (60_000, false)] {
        let queue = Arc::new(MemoryQueue::new(Duration::from_secs(60)).with_max_bytes(50_000));
        let body = "x".repeat(body_bytes);
        queue.send("m", &body);
        let (worker, stop) = (Arc::new(worker(&queue)), CancellationToken::new());
        let running = tokio::spawn(run(worker, stop.clone(), Until::Stopped));
        let begun = Instant::now();
        while !queue.depth().await.expect("memory").is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is held");
            sleep(Duration::from_millis(20)).await;
        }
        stop.cancel();
        assert!(running.await.expect("no panic"));
        let [(sent, attributes)] = &queue.dead_letters()[..] else { panic!("one") };
        if kept_whole {
            assert_eq!((sent, attributes.len()), (&body, 0));
        } else {
            assert!(sent.contains("\"body_bytes\":60000") && sent.contains("\"message_id\":\"m\""), "{sent}");
            assert_eq!(attributes.len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_queue_of_short_messages_takes_a_pointer_of_each_record_once_and_what_takes_none_holds_nothing() {
    let keys = [10, 60, 1000, 20].map(|n| "k".repeat(n));
    let failure = Failure::new(Reason::Corrupt, "no magic");
    let settled = Settled::new(&"d".into(), Some(42), Outcome::Failed(failure.clone()));
    let routed = keys.each_ref().map(|key| {
        let parsed = crate::message::parse(&format!(r#"{{"bucket":"b","key":"{key}"}}"#));
        let crate::message::Parsed::Records(mut records) = parsed else { panic!("a pointer") };
        Routed { record: Arc::new(records.remove(0)), route: Route::Unrouted }
    });
    let failed: Vec<Failed<'_>> =
        routed.iter().map(|routed| Failed { routed, settled: &settled, failure: &failure }).collect();
    for (max_bytes, n_letters) in [(1024, 4), (50, 0)] {
        let queue = Arc::new(MemoryQueue::new(Duration::from_secs(60)).with_max_bytes(max_bytes));
        queue.send("m", &"x".repeat(2000));
        let message = queue.receive(1, Duration::ZERO).await.expect("memory").remove(0);
        let (disposition, is_sent) =
            worker(&queue).forward(&message, &failed, &failure, &CancellationToken::new()).await;
        assert!(matches!(disposition, message::Disposition::Delete));
        assert_eq!(is_sent, n_letters > 0);
        let letters = queue.dead_letters();
        assert_eq!(letters.len(), n_letters, "{letters:?}");
        for (key, (letter, _)) in keys.iter().zip(letters) {
            assert_eq!(letter.contains(key), key.len() < 1000, "{letter}");
        }
    }
}

#[tokio::test]
async fn a_message_stays_hidden_though_an_extension_was_under_way() {
    let queue = Arc::new(MemoryQueue::new(Duration::from_secs(60)).with_slow_extensions(1));
    queue.send("1", "body");
    let worker = worker(&queue);
    // Its own keeper has found nothing to extend, and rests.
    sleep(Duration::from_millis(20)).await;
    let message = worker.queue.receive(1, Duration::ZERO).await.expect("memory").remove(0);
    worker.in_hand.take(&message);
    let timeout = Duration::from_millis(300);
    let keeping = tokio::spawn(in_hand::keep(Arc::clone(&worker.queue), Arc::clone(&worker.in_hand), timeout));
    // It has chosen the message, and its call is on the way.
    sleep(Duration::from_millis(50)).await;
    worker.hide(&message).await;
    sleep(Duration::from_secs(1)).await;
    keeping.abort();
    assert_eq!(queue.depth().await.expect("memory").in_flight, 1, "hidden for half a minute");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_held_for_too_long_is_given_back() {
    let timeout = Duration::from_secs(60);
    let queue = Arc::new(MemoryQueue::new(timeout));
    queue.send("m", "s3://b/k");
    let mut worker = worker(&queue);
    worker.hold_limit = Duration::from_secs(2);
    let (worker, stop) = (Arc::new(worker), CancellationToken::new());
    let running = tokio::spawn(run(Arc::clone(&worker), stop.clone(), Until::Stopped));
    let begun = Instant::now();
    // Given back it is received again at once, far from the end of its visibility timeout.
    while worker.progress.redeliveries.load(Ordering::Relaxed) == 0 {
        assert!(begun.elapsed() < timeout / 2, "it was not given back");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= worker.hold_limit, "it was held until then");
    stop.cancel();
    assert!(running.await.expect("no panic"));
    assert_eq!(queue.depth().await.expect("memory").visible, 1, "a stop gives it back, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_message_of_many_records_some_are_under_way_at_once_and_they_are_weighed() {
    let queue = Arc::new(MemoryQueue::new(Duration::from_secs(60)));
    let record = r#"{"eventVersion":"2.1","eventSource":"aws:s3","eventTime":"2026-01-01T00:00:00.000Z",
        "eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k","size":5,"eTag":"e"}}}"#;
    // A little less than may be held: what is under way makes it more.
    let blanks = " ".repeat(15 * 1024 * 1024);
    queue.send("m", &format!("{{\"Records\":[{}]{blanks}}}", vec![record; 2 * message::RECORDS_AT_ONCE].join(",")));
    let (worker, stop) = (Arc::new(worker(&queue)), CancellationToken::new());
    let running = tokio::spawn(run(Arc::clone(&worker), stop.clone(), Until::Stopped));
    let begun = Instant::now();
    while worker.waits.n_open("m") < message::RECORDS_AT_ONCE {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", worker.waits.n_open("m"));
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(worker.waits.n_open("m"), message::RECORDS_AT_ONCE);
    assert_eq!(worker.in_hand.room(), 0);
    stop.cancel();
    assert!(running.await.expect("no panic"));
    assert_eq!(queue.depth().await.expect("memory").visible, 1, "a stop gives it back");
}
