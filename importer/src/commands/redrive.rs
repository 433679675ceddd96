//! `importer redrive`: the dead-letter queue back to the source.
//!
//! Receive, send, delete, in this order: interrupted anywhere, a message is in at least one of the
//! queues, and one that is in both is imported once.
//!
//! What arrives in the dead-letter queue after the start stays there: it may be what was sent back a moment
//! ago and has failed again, and would go round for as long as we look.

use super::{connect_queue, progress};
use crate::{config::Config, queue::Queue};
use anyhow::{Context, bail};
use chrono::Utc;
use std::{
    collections::{HashMap, HashSet},
    process::ExitCode,
    time::Duration,
};
use tracing::warn;

/// Empty polls in a row that end the redrive.
const EMPTY_POLLS: u32 = 2;

/// Moves messages from the dead-letter queue back to the queue.
///
/// # Errors
/// When there is no dead-letter queue, or a queue does not answer.
pub async fn run(config: &Config, reason: Option<&str>) -> anyhow::Result<ExitCode> {
    let queue = connect_queue(&service::aws::config().await?, &config.queue).await?;
    let Some(dead_letters) = &queue.dead_letters else {
        bail!("queue {} has no dead-letter queue", config.queue.url.as_deref().unwrap_or_default());
    };
    let bar = progress(None, "messages sent back");
    let (mut n_sent, mut empty_polls) = (0u64, 0);
    // What stays is hidden while we look at the rest, and given back at the end.
    let mut others = HashMap::new();
    let started = Utc::now();
    let mut seen = HashSet::new();
    while empty_polls < EMPTY_POLLS {
        let messages = dead_letters.receive(10, Duration::from_secs(1)).await.context("read the dead-letter queue")?;
        let n_before = seen.len();
        let (mut done, mut bodies) = (Vec::new(), Vec::new());
        for message in messages {
            let wanted = reason.is_none_or(|reason| message.reason.as_deref() == Some(reason))
                && message.delivery.sent_at.is_none_or(|sent_at| sent_at <= started);
            let news = seen.insert(message.message_id.clone());
            if !wanted {
                others.insert(message.message_id, message.receipt_handle);
                continue;
            }
            // Sent before already, and only not deleted then.
            if news {
                bodies.push((message.body, message.receipt_handle));
            } else {
                done.push(message.receipt_handle);
            }
        }
        let (bodies, handles): (Vec<_>, Vec<_>) = bodies.into_iter().unzip();
        let mut not_sent = None;
        for (result, handle) in queue.send(&bodies).await.into_iter().zip(handles) {
            match result {
                Ok(()) => {
                    n_sent += 1;
                    bar.inc(1);
                    done.push(handle);
                }
                Err(error) => not_sent = Some(error),
            }
        }
        // A poll that only brings what was seen before counts as empty: nothing new is left.
        empty_polls = if seen.len() == n_before { empty_polls + 1 } else { 0 };
        let failed = dead_letters.delete(&done).await.into_iter().filter(Result::is_err).count();
        if failed > 0 {
            warn!(messages = failed, "sent back but not deleted; they will be sent back once more by the next redrive");
        }
        if let Some(error) = not_sent {
            return Err(error);
        }
    }
    bar.finish_and_clear();
    let left: Vec<String> = others.into_values().collect();
    dead_letters.extend(&left, Duration::ZERO).await;
    println!("{n_sent} messages sent back, {} left", left.len());
    Ok(ExitCode::SUCCESS)
}
