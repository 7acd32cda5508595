//! Generation over a mock route: the next token is a known function of the tokens so far.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};

use super::*;
use crate::{
    activation::{Activation, Dtype},
    hop::{Account, Done, Head, Hop, HopError, HopSession, Input, OpenSession, Rows, Step},
    id::{ModelHash, Span},
    limits::MAX_STEPS_IN_FLIGHT,
    token::{Tokenizer, Vocabulary},
};

/// `<end>`, then one token a byte.
const END: u32 = 0;

fn byte(character: char) -> u32 {
    1 + u32::from(u8::try_from(character).unwrap())
}

fn tokenizer() -> Arc<Tokenizer> {
    let mut tokens = vec!["<|im_end|>".to_owned()];
    let printed = |b: &u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    for b in 0..=255u8 {
        let code = if printed(&b) { u32::from(b) } else { (next, next += 1).0 };
        tokens.push(char::from_u32(code).unwrap().to_string());
    }
    let types = (0..tokens.len()).map(|id| if id == 0 { 3 } else { 1 }).collect();
    let vocabulary = Vocabulary {
        model: "gpt2".into(),
        pre: "gpt-2".into(),
        tokens,
        types,
        eos: Some(END),
        ..Vocabulary::default()
    };
    Arc::new(Tokenizer::new(&vocabulary).unwrap())
}

/// A hop that says a fixed text whatever the prompt, and counts what is asked of it.
#[derive(Debug, Default)]
struct MockHop {
    script: Vec<u32>,
    /// The step that fails.
    fail_at: Option<u64>,
    /// A step that never ends.
    hang_at: Option<u64>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    live: AtomicUsize,
    closed: AtomicUsize,
    steps: Mutex<Vec<(u32, Vec<u32>, Rows)>>,
    opened: Mutex<Vec<OpenSession>>,
    most_in_flight: AtomicUsize,
}

struct MockSession {
    prompt_left: bool,
    said: usize,
    queue: VecDeque<Step>,
    position: u32,
    seq: u64,
    script: Vec<u32>,
    fail_at: Option<u64>,
    hang_at: Option<u64>,
    seen: Arc<Seen>,
}

impl Hop for MockHop {
    fn span(&self) -> Span {
        Span::new(0, 2).unwrap()
    }

    fn open(&self, request: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>> {
        self.seen.opened.lock().unwrap().push(request);
        self.seen.live.fetch_add(1, Ordering::SeqCst);
        let session = MockSession {
            prompt_left: true,
            said: 0,
            queue: VecDeque::new(),
            position: 0,
            seq: 0,
            script: self.script.clone(),
            fail_at: self.fail_at,
            hang_at: self.hang_at,
            seen: self.seen.clone(),
        };
        async move { Ok(Box::new(session) as Box<dyn HopSession>) }.boxed()
    }
}

impl HopSession for MockSession {
    fn submit(&mut self, step: Step) -> BoxFuture<'_, Result<(), HopError>> {
        assert_eq!((step.seq, step.position), (self.seq, self.position), "steps follow each other without gaps");
        let Input::Tokens(tokens) = &step.input else { panic!("the first hop gets token ids") };
        self.seq += 1;
        self.position += tokens.len() as u32;
        self.seen.steps.lock().unwrap().push((step.position, tokens.clone(), step.output));
        self.queue.push_back(step);
        assert!(self.queue.len() <= MAX_STEPS_IN_FLIGHT);
        self.seen.most_in_flight.fetch_max(self.queue.len(), Ordering::SeqCst);
        async { Ok(()) }.boxed()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Done, HopError>> {
        async move {
            let step = self.queue.pop_front().expect("a step was queued");
            if self.hang_at == Some(step.seq) {
                futures::future::pending::<()>().await;
            }
            if self.fail_at == Some(step.seq) {
                return Err(HopError::Device { reason: "mock device failed".to_owned() });
            }
            if step.output == Rows::None {
                return Ok(Done { seq: step.seq, output: None });
            }
            if !std::mem::take(&mut self.prompt_left) {
                assert_eq!(step.input, Input::Tokens(vec![self.script[self.said - 1]]), "what was said comes back in");
            }
            let row = vec![self.script[self.said] as f32];
            self.said += 1;
            Ok(Done { seq: step.seq, output: Some(Activation::from_f32(1, 1, row).unwrap()) })
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Account>, HopError>> {
        self.seen.closed.fetch_add(1, Ordering::SeqCst);
        let account = Account {
            node: None,
            span: Span::new(0, 2).unwrap(),
            tokens: u64::from(self.position),
            counted: u64::from(self.position),
            compute: Duration::from_millis(3),
            exact: true,
            receipts: Vec::new(),
        };
        async move { Ok(vec![account]) }.boxed()
    }
}

impl Drop for MockSession {
    fn drop(&mut self) {
        self.seen.live.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A head that reads the token from the hidden state: its logit is 2, all others -1; not a number for token 300.
#[derive(Debug)]
struct MockHead;

impl Head for MockHead {
    fn logits(&self, hidden: Activation) -> BoxFuture<'_, Result<Vec<f32>, HopError>> {
        let id = hidden.to_f32()[0] as usize;
        let mut logits = vec![-1.0; self.vocabulary()];
        if id == 300 {
            logits[7] = f32::NAN
        } else {
            logits[id] = 2.0
        }
        async move { Ok(logits) }.boxed()
    }

    fn vocabulary(&self) -> usize {
        257
    }
}

fn generator(chunk_tokens: usize) -> Generator {
    let config =
        GeneratorConfig { model: ModelHash([7; 32]), layers: 2, context_tokens: 4096, dtype: Dtype::F32, chunk_tokens };
    Generator::new(tokenizer(), Arc::new(MockHead), config).unwrap()
}

fn says(text: &str) -> MockHop {
    let mut script: Vec<u32> = text.bytes().map(|b| 1 + u32::from(b)).collect();
    script.push(END);
    MockHop { script, ..MockHop::default() }
}

fn request(max_tokens: u32) -> Request {
    let prompt = "prompt".chars().map(byte).collect();
    Request { prompt, max_tokens, sampling: Sampling::greedy(), stop: Vec::new(), logprobs: None }
}

/// Runs to the end: tokens, then how it ended.
async fn run(hop: MockHop, request: Request) -> (Vec<TokenEvent>, Result<Finish, GenerateError>) {
    let mut generation = generator(DEFAULT_CHUNK_TOKENS).generate(Arc::new(hop), request).unwrap();
    let mut tokens = Vec::new();
    while let Some(event) = generation.next().await {
        match event {
            Ok(Event::Token(token)) => tokens.push(token),
            end => {
                assert!(generation.next().await.is_none(), "nothing follows the end");
                let Err(error) = end else {
                    let Ok(Event::Done(finish)) = end else { unreachable!() };
                    return (tokens, Ok(finish));
                };
                return (tokens, Err(error));
            }
        }
    }
    panic!("the stream ended without a last event");
}

fn text(tokens: &[TokenEvent]) -> String {
    tokens.iter().map(|token| token.text.as_str()).collect()
}

#[tokio::test]
async fn greedy_says_what_the_model_says_and_ends_with_it() {
    let hop = says("Caf\u{e9} \u{1f44b}!");
    let seen = hop.seen.clone();
    let (tokens, finish) = run(hop, request(40)).await;
    let finish = finish.unwrap();
    assert_eq!(text(&tokens), "Caf\u{e9} \u{1f44b}!");
    assert_eq!(finish.reason, FinishReason::Stop);
    // 12 bytes and the end token, which is told of but has no text.
    assert_eq!(finish.usage, Usage { prompt_tokens: 6, completion_tokens: 12 });
    assert_eq!(tokens.iter().map(|t| t.index).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    assert_eq!((tokens[11].id, tokens[11].text.as_str()), (END, ""));
    // Each character comes whole, with its last byte.
    assert_eq!(tokens[3].text, "");
    assert_eq!(tokens[4].text, "\u{e9}");
    // The end token is not run: 6 of the prompt and 11 of the text.
    assert_eq!(finish.accounts[0].tokens, 17);
    let opened = seen.opened.lock().unwrap();
    assert_eq!((opened[0].context_tokens, opened[0].session), (46, finish.session));
    assert_eq!((seen.live.load(Ordering::SeqCst), seen.closed.load(Ordering::SeqCst)), (0, 1));
}

#[tokio::test]
async fn max_tokens_end_it_and_the_rest_of_a_character_is_told() {
    let (tokens, finish) = run(says("ab\u{e9}"), request(3)).await;
    let finish = finish.unwrap();
    assert_eq!((finish.reason, finish.usage.completion_tokens), (FinishReason::Length, 3));
    assert_eq!((text(&tokens).as_str(), finish.tail.as_str()), ("ab", "\u{fffd}"));
    assert_eq!(finish.accounts[0].tokens, 8, "the step after the last token is not run");
}

#[tokio::test]
async fn chunks_of_a_prompt_change_nothing_and_overlap() {
    let mut runs = Vec::new();
    for chunk_tokens in [1, 7, 64, 512] {
        let hop = says("answer");
        let seen = hop.seen.clone();
        let asked = Request { prompt: (0..100).map(|i| 1 + i % 256).collect(), ..request(20) };
        let generation = generator(chunk_tokens).generate(Arc::new(hop), asked.clone()).unwrap();
        let events: Vec<Event> = generation.map(Result::unwrap).collect().await;
        let said: Vec<u32> = events
            .iter()
            .filter_map(|event| if let Event::Token(token) = event { Some(token.id) } else { None })
            .collect();
        let steps = seen.steps.lock().unwrap();
        let prefill: Vec<_> = steps.iter().take_while(|(position, ..)| *position < 100).collect();
        assert_eq!(prefill.iter().flat_map(|(_, tokens, _)| tokens.clone()).collect::<Vec<_>>(), asked.prompt);
        assert!(prefill.iter().rev().skip(1).all(|(.., rows)| *rows == Rows::None));
        assert_eq!(prefill.last().unwrap().2, Rows::Last);
        assert_eq!(seen.most_in_flight.load(Ordering::SeqCst), prefill.len().min(MAX_STEPS_IN_FLIGHT));
        runs.push(said);
    }
    assert_eq!(runs[0].len(), 7);
    assert!(runs.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_stop_text_ends_the_output_and_the_session() {
    let hop = says("one\n\ntwo\n\nthree");
    let seen = hop.seen.clone();
    let (tokens, finish) = run(hop, Request { stop: vec!["\n\nth".into(), "zzz".into()], ..request(40) }).await;
    let finish = finish.unwrap();
    assert_eq!((text(&tokens).as_str(), finish.tail.as_str()), ("one\n\ntwo", ""));
    assert_eq!((finish.reason, finish.usage.completion_tokens), (FinishReason::Stop, 12));
    assert_eq!(seen.closed.load(Ordering::SeqCst), 1);
    let (tokens, finish) = run(says("ends in a sto"), Request { stop: vec!["stop".into()], ..request(40) }).await;
    assert_eq!(text(&tokens) + &finish.unwrap().tail, "ends in a sto");
}

#[tokio::test]
async fn a_failing_hop_is_told_after_the_tokens_before_it() {
    // Step 0 is the prompt.
    let hop = MockHop { fail_at: Some(3), ..says("abcdef") };
    let seen = hop.seen.clone();
    let (tokens, finish) = run(hop, request(40)).await;
    assert_eq!(text(&tokens), "abc");
    assert!(matches!(finish, Err(GenerateError::Hop(HopError::Device { .. }))));
    assert_eq!((seen.live.load(Ordering::SeqCst), seen.closed.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn logits_that_are_no_numbers_are_told() {
    let hop = MockHop { script: vec![byte('a'), 300], ..MockHop::default() };
    let (tokens, finish) = run(hop, request(40)).await;
    assert_eq!(text(&tokens), "a");
    let source = LogitsError::NotFinite { id: 7, kind: "not a number" };
    assert!(matches!(finish, Err(GenerateError::Logits { index: 1, source: found }) if found == source));
}

#[tokio::test]
async fn dropping_it_ends_the_session_at_once() {
    for hang_at in [0, 2] {
        let hop = MockHop { hang_at: Some(hang_at), ..says("abcdef") };
        let seen = hop.seen.clone();
        let mut generation = generator(64).generate(Arc::new(hop), request(40)).unwrap();
        for _ in 0..hang_at {
            assert!(matches!(generation.next().await, Some(Ok(Event::Token(_)))));
        }
        assert!(generation.next().now_or_never().is_none(), "the hop hangs");
        assert_eq!(seen.live.load(Ordering::SeqCst), 1);
        drop(generation);
        assert_eq!((seen.live.load(Ordering::SeqCst), seen.closed.load(Ordering::SeqCst)), (0, 0));
    }
}

#[tokio::test]
async fn a_token_is_told_while_the_next_step_runs() {
    let hop = MockHop { hang_at: Some(1), ..says("ab") };
    let seen = hop.seen.clone();
    let mut generation = generator(64).generate(Arc::new(hop), request(40)).unwrap();
    let Some(Some(Ok(Event::Token(token)))) = generation.next().now_or_never() else { panic!("the first token waits") };
    assert_eq!(token.text, "a");
    assert_eq!(seen.steps.lock().unwrap().last().unwrap().1, [byte('a')], "its step is on its way");
}

#[tokio::test]
async fn logprobs_are_those_of_the_model() {
    let (tokens, _) = run(says("x"), Request { logprobs: Some(2), ..request(40) }).await;
    let (own, best) = tokens[0].logprobs.clone().unwrap();
    let norm = (2f64.exp() + 256.0 * (-1f64).exp()).ln();
    assert!((f64::from(own) - (2.0 - norm)).abs() < 1e-5);
    assert_eq!(best.iter().map(|b| b.id).collect::<Vec<_>>(), [byte('x'), 0]);
    assert_eq!(best[0].logprob, own);
    assert!(run(says("x"), request(40)).await.0[0].logprobs.is_none());
}

#[tokio::test]
async fn requests_out_of_range_open_nothing() {
    let hop = Arc::new(says("x"));
    let long = Request { max_tokens: 4091, ..request(1) };
    let refused = generator(64).generate(hop.clone(), long).unwrap_err();
    assert!(matches!(refused, GenerateError::TooLong { prompt_tokens: 6, max_tokens: 4091, context_tokens: 4096 }));
    let hot = Request { sampling: Sampling { temperature: 3.0, ..Sampling::default() }, ..request(1) };
    let refused = generator(64).generate(hop.clone(), hot).unwrap_err().to_string();
    assert_eq!(refused, "temperature is 3, must be 0 to 2");
    let mut other = generator(64);
    let config = GeneratorConfig { layers: 3, ..*other.config() };
    other = Generator::new(tokenizer(), Arc::new(MockHead), config).unwrap();
    let refused = other.generate(hop.clone(), request(1)).unwrap_err();
    assert!(matches!(refused, GenerateError::Hop(HopError::Refused { .. })));
    assert!(hop.seen.opened.lock().unwrap().is_empty());
}
