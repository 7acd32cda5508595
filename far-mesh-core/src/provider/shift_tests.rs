//! Sessions at a hop that changes under them.

use super::*;
use crate::{
    activation::Dtype,
    hop::Rows,
    id::{ModelHash, SessionId},
};

/// A hop of these layers that answers every step.
#[derive(Debug)]
struct Echo(Span);

struct EchoSession(u64);

impl Hop for Echo {
    fn span(&self) -> Span {
        self.0
    }

    fn open(&self, _: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>> {
        Box::pin(async { Ok(Box::new(EchoSession(0)) as Box<dyn HopSession>) })
    }
}

impl HopSession for EchoSession {
    fn submit(&mut self, _: Step) -> BoxFuture<'_, Result<(), HopError>> {
        Box::pin(async { Ok(()) })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Done, HopError>> {
        self.0 += 1;
        let seq = self.0 - 1;
        Box::pin(async move { Ok(Done { seq, output: None }) })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Account>, HopError>> {
        Box::pin(async { Ok(vec![]) })
    }
}

fn echo(layers: &str) -> Arc<dyn Hop> {
    Arc::new(Echo(layers.parse().unwrap()))
}

async fn open(hop: &Shifting, layers: &str) -> Result<Box<dyn HopSession>, HopError> {
    let (session, model, span) = (SessionId::random(), ModelHash([0; 32]), layers.parse().unwrap());
    hop.open_for(NodeId::random(), OpenSession { session, model, span, dtype: Dtype::F32, context_tokens: 1 }).await
}

#[tokio::test(start_paused = true)]
async fn sessions_stay_where_they_are_and_new_ones_go_where_their_layers_are() {
    let (old, new) = (echo("0..10"), echo("20..30"));
    let hop = Shifting::new(Arc::clone(&old));
    let mut session = open(&hop, "0..10").await.unwrap();
    hop.add(Arc::clone(&new));
    assert_eq!(hop.span(), "0..30".parse().unwrap());
    let other = open(&hop, "20..30").await.unwrap();
    assert!(open(&hop, "3..5").await.is_ok(), "both are served");
    let between = open(&hop, "10..20").await.err().unwrap();
    assert!(between.to_string().contains("20..30 and 0..10"), "{between}");

    let patience = Duration::from_secs(5);
    let started = tokio::time::Instant::now();
    let (left, ()) = tokio::join!(hop.remove(&old, patience), async {
        assert!(matches!(open(&hop, "0..10").await.err(), Some(HopError::Closed)), "no new ones");
        let step = Step { seq: 0, position: 0, input: crate::hop::Input::Tokens(vec![1]), output: Rows::None };
        session.submit(step).await.unwrap();
        assert_eq!(session.next().await.unwrap().seq, 0, "those that run go on");
        session.close().await.unwrap();
    });
    assert_eq!((left, started.elapsed()), (0, Duration::ZERO));
    assert_eq!(hop.span(), "20..30".parse().unwrap());
    assert!(matches!(open(&hop, "0..10").await.err(), Some(HopError::Refused { .. })));

    // Who stays is counted and left behind.
    hop.add(Arc::clone(&old));
    assert_eq!(hop.remove(&new, patience).await, 1);
    assert_eq!(started.elapsed(), patience);
    drop(other);
    assert_eq!(hop.remove(&new, patience).await, 0, "it is gone already");
}
