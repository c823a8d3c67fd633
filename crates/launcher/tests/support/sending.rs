//! Sends scans as single, array and NDJSON requests, some of them twice, until each is answered.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use loadtest::client::Client;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::drawing::{CALLERS, Draft};
use crate::support::{GLANCE, Place};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    One,
    Array,
    Lines,
}

/// What one request carries.
#[derive(Debug)]
struct Request {
    caller: usize,
    shape: Shape,
    /// By their place among the drafts; one may stand here twice.
    items: Vec<usize>,
    /// The same body goes out twice at once.
    is_twin: bool,
}

/// Scans on their way.
pub struct Load {
    drafts: Vec<Draft>,
    queue: Mutex<VecDeque<Request>>,
    answered: AtomicUsize,
    /// Requests that broke or were refused for now, and were sent again.
    pub retried: AtomicUsize,
    /// Whether an answer must be what the draft expects, or may be that of another status meanwhile.
    is_first: bool,
}

impl Load {
    /// New scans: one in a hundred goes out twice, at once or within one batch. Those to be sent again later are answered
    /// beside the load.
    pub fn first(drafts: Vec<Draft>, random: &mut ChaCha8Rng) -> (Arc<Self>, Vec<Draft>) {
        let mut later = Vec::new();
        let mut queue = Vec::new();
        let mut of_caller: Vec<Vec<usize>> = vec![Vec::new(); CALLERS.len()];
        for (index, draft) in drafts.iter().enumerate() {
            let items = &mut of_caller[draft.caller];
            match random.random_range(0..300) {
                0 => {
                    let shape = [Shape::One, Shape::Array, Shape::Lines][random.random_range(0..3)];
                    queue.push(Request {
                        caller: draft.caller,
                        shape,
                        items: vec![index],
                        is_twin: true,
                    });
                    continue;
                }
                1 => items.push(index),
                2 => later.push(draft.clone()),
                _ => {}
            }
            items.push(index);
        }
        for (caller, items) in of_caller.iter().enumerate() {
            let mut rest = items.as_slice();
            while !rest.is_empty() {
                let (shape, most) = match random.random_range(0..20) {
                    0..3 => (Shape::Array, 60),
                    3..6 => (Shape::Lines, 150),
                    _ => (Shape::One, 1),
                };
                let length = random.random_range(1..=most).min(rest.len());
                let (items, after) = rest.split_at(length);
                rest = after;
                queue.push(Request {
                    caller,
                    shape,
                    items: items.to_vec(),
                    is_twin: random.random_ratio(1, 100),
                });
            }
        }
        queue.shuffle(random);
        (Arc::new(Self::new(drafts, queue.into(), true)), later)
    }

    /// Scans that were sent before, once more, in the order of their ids.
    pub fn again(mut drafts: Vec<Draft>) -> Arc<Self> {
        drafts.sort_by(|a, b| a.sent.id.cmp(&b.sent.id));
        let mut of_caller: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, draft) in drafts.iter().enumerate() {
            of_caller.entry(draft.caller).or_default().push(index);
        }
        let requests = of_caller.into_iter().map(|(caller, items)| Request {
            caller,
            shape: Shape::Lines,
            items,
            is_twin: false,
        });
        let queue = requests.collect();
        Arc::new(Self::new(drafts, queue, false))
    }

    fn new(drafts: Vec<Draft>, queue: VecDeque<Request>, is_first: bool) -> Self {
        Self {
            drafts,
            queue: Mutex::new(queue),
            answered: AtomicUsize::new(0),
            retried: AtomicUsize::new(0),
            is_first,
        }
    }

    /// Items answered so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Starts to send over so many connections; the tasks end when every item is answered.
    pub fn send(self: &Arc<Self>, place: &Place, connections: usize) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let load = Arc::clone(self);
            let mut clients = CALLERS.map(|caller| place.caller(caller));
            let mut twins = CALLERS.map(|caller| place.caller(caller));
            tasks.spawn(async move {
                while let Some(request) = load.next() {
                    let first = load.deliver(&mut clients[request.caller], &request);
                    if request.is_twin {
                        tokio::join!(first, load.deliver(&mut twins[request.caller], &request));
                    } else {
                        first.await;
                    }
                }
            });
        }
        tasks
    }

    fn next(&self) -> Option<Request> {
        self.queue.lock().expect("no sender panicked").pop_front()
    }

    /// Sends until every item is answered for good, always under the same ids.
    async fn deliver(&self, client: &mut Client, request: &Request) {
        let mut open = request.items.clone();
        loop {
            let (content_type, body) = self.body(request.shape, &open);
            let path = if request.shape == Shape::One && self.is_display(&open) {
                "/v1/displays"
            } else {
                "/v1/scans"
            };
            match client.post(path, content_type, body.into()).await {
                Ok(answer) if !matches!(answer.status, 429 | 503) => {
                    let results = results_of(request.shape, answer.status, &answer.text());
                    assert_eq!(results.len(), open.len(), "{}", answer.text());
                    let unavailable = |(_, (status, _)): &(usize, (u64, Value))| *status == 503;
                    let pairs = open.into_iter().zip(results);
                    let (still_open, settled): (Vec<_>, Vec<_>) = pairs.partition(unavailable);
                    for (index, (status, result)) in &settled {
                        self.check(&self.drafts[*index], *status, result);
                    }
                    self.answered.fetch_add(settled.len(), Ordering::Relaxed);
                    open = still_open.into_iter().map(|(index, _)| index).collect();
                }
                Ok(_) | Err(_) => {}
            }
            if open.is_empty() {
                return;
            }
            self.retried.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(GLANCE).await;
        }
    }

    fn is_display(&self, items: &[usize]) -> bool {
        let is_display = |index: &usize| self.drafts[*index].sent.kind == "display";
        items.iter().all(is_display)
    }

    fn body(&self, shape: Shape, items: &[usize]) -> (&'static str, String) {
        let texts: Vec<&str> = items
            .iter()
            .map(|index| self.drafts[*index].text.as_str())
            .collect();
        match shape {
            Shape::One => ("application/json", texts.concat()),
            Shape::Array => ("application/json", format!("[{}]", texts.join(","))),
            Shape::Lines => ("application/x-ndjson", texts.join("\n")),
        }
    }

    /// An acknowledgement is a 201, or the recorded refusal of a quick check-in under a red code.
    fn check(&self, draft: &Draft, status: u64, result: &Value) {
        let sent = &draft.sent;
        let is_refusal = sent.kind == "quick_check_in" && sent.is_red;
        if status == 403 {
            assert_eq!(result["recorded"], true, "{}: {result}", draft.text);
        } else {
            assert_eq!(status, 201, "{}: {result}", draft.text);
            assert_eq!(result["scan_id"], sent.id, "{}: {result}", draft.text);
        }
        if self.is_first {
            assert_eq!(status == 403, is_refusal, "{}: {result}", draft.text);
            let colour = if sent.is_red { "red" } else { "green" };
            let shown = (&result["colour"], &result["disposition"]);
            assert!(
                is_refusal || (shown.0 == colour && shown.1 == sent.disposition),
                "{}: {result}",
                draft.text
            );
        }
    }
}

/// Status and result, or problem, of each item.
fn results_of(shape: Shape, status: u16, text: &str) -> Vec<(u64, Value)> {
    let parse = |text: &str| -> Value { serde_json::from_str(text).expect(text) };
    let items = match shape {
        Shape::One => return vec![(u64::from(status), parse(text))],
        Shape::Array => {
            let mut answer = parse(text);
            let Value::Array(items) = answer["results"].take() else {
                panic!("no results: {text}");
            };
            items
        }
        Shape::Lines => text.lines().map(parse).collect(),
    };
    let item = |mut item: Value| {
        let status = item["status"].as_u64().expect("a status");
        let field = if item.get("problem").is_some() {
            "problem"
        } else {
            "result"
        };
        (status, item[field].take())
    };
    items.into_iter().map(item).collect()
}
