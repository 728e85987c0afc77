//! Pages that cost some milliseconds with thousands of services: one is made at a time, in a thread of its own. Wakes must not
//! wait for it, and the allocator keeps the memory of a large page for each thread that has made one.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::sync::oneshot;

/// Where pages are asked for; clones share the thread, which ends with the last of them.
#[derive(Clone)]
pub struct PageQueue {
    jobs: SyncSender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

/// Pages that may wait.
const MOST_WAITING: usize = 15;

// === impl PageQueue ===

impl PageQueue {
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> io::Result<Self> {
        let (jobs, queue) = sync_channel(MOST_WAITING);
        thread::Builder::new().name("pages".to_owned()).spawn(move || run(&queue))?;
        Ok(Self { jobs })
    }

    /// Makes a page. `None` where too many are asked for, or making it has panicked.
    pub async fn make<T: Send + 'static>(
        &self,
        page: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, made) = oneshot::channel();
        // The page is made to its end, even for a client that has left.
        let job = move || drop(sender.send(page()));
        self.jobs.try_send(Box::new(job)).ok()?;
        made.await.ok()
    }
}

fn run(queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        // The panic is logged and counted; the next page is another one.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_made_by_one_thread_and_too_many_are_refused() {
        let pages = PageQueue::start().unwrap();
        let thread = || thread::current().id();
        let first = pages.make(thread).await.unwrap();
        assert_ne!(first, thread());
        let panicked: Option<u8> = pages.make(|| panic!("this page cannot be made")).await;
        assert_eq!(panicked, None);
        assert_eq!(pages.clone().make(thread).await, Some(first));

        let (release, released) = sync_channel::<()>(0);
        let (begin, begun) = oneshot::channel();
        let blocked = tokio::spawn({
            let pages = pages.clone();
            async move {
                let page = move || begin.send(()).is_ok() && released.recv().is_ok();
                pages.make(page).await
            }
        });
        begun.await.unwrap();
        let waiting: Vec<_> = (0..2 * MOST_WAITING)
            .map(|_| {
                tokio::spawn({
                    let pages = pages.clone();
                    async move { pages.make(|| ()).await }
                })
            })
            .collect();
        // Each has asked once before this one goes on.
        tokio::task::yield_now().await;
        release.send(()).unwrap();
        assert_eq!(blocked.await.unwrap(), Some(true));
        let mut made = 0;
        for page in waiting {
            made += usize::from(page.await.unwrap().is_some());
        }
        assert_eq!(made, MOST_WAITING);
    }
}
