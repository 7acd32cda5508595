//! One session at a hop, from `Open` to its end, in one task.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    admission::{NoPlace, Place, Slot},
    control::Control,
    event::{End, Event},
    intake::Intake,
    kept::Kept,
    links::{Links, SETTLE_DEADLINE, StepSource},
    outlet::{Outlet, Sink},
    rendezvous::{Registered, Registration},
    server::Shared,
    works::Works,
};
use crate::{
    hop::{HopSession, OpenSession},
    id::{NodeId, SessionId},
    limits::{MAX_STEPS_IN_FLIGHT, OPEN_DEADLINE},
    peer::wire::{
        Attach, BUILD, Fault, Frame, Link, LinkError, Next, Open, PROTOCOL_VERSION, Reroute, Rerouted, Source, Tally,
    },
};

/// Time for the next hop to be reached and to accept the stream: less than the coordinator waits, so that it hears
/// which of the two is to blame.
const CONNECT_DEADLINE: Duration = OPEN_DEADLINE.saturating_sub(Duration::from_secs(3));

/// How long a session that ended waits for its coordinator to read why.
const LINGER: Duration = Duration::from_secs(5);

/// How long the shard may take to sum up its work.
const ACCOUNT_DEADLINE: Duration = Duration::from_secs(1);

/// What a session holds at this node besides its room at the hop.
struct Admitted {
    slot: Slot,
    registration: Registration,
    attached: oneshot::Receiver<Link>,
    resumed: mpsc::Receiver<Link>,
}

/// Runs the session that `coordinator` asks for.
pub(super) async fn run(shared: Arc<Shared>, coordinator: NodeId, mut control: Link, open: Open, greeting: Slot) {
    let (session, span) = (open.session, open.span);
    let Admitted { mut slot, registration, attached, resumed } = match admit(&shared, coordinator, &open) {
        Ok(admitted) => admitted,
        Err(fault) => {
            tracing::debug!(%session, %coordinator, %span, ?fault, "session refused");
            refuse(&mut control, fault).await;
            return;
        }
    };
    drop(greeting);
    let (has_room, room) = oneshot::channel();
    let source = match open.source {
        Source::Coordinator => StepSource::Coordinator,
        Source::Peer(node) => StepSource::Waiting(node, take_source(attached, Some(room), 0).boxed()),
    };
    let sink = match &open.next {
        Some(next) => attaching(&shared, coordinator, session, next.clone(), None),
        None => Sink::Coordinator,
    };
    let intake = Intake::new(&open, shared.hop.merges_steps());
    let outlet = Outlet::new(open.session, sink, Kept::new(Arc::clone(&shared.kept)), Arc::clone(&shared.dialer));
    let works = Works::new(&open, coordinator, shared.hop.kernel_class(), shared.dialer.key().clone());
    let (live, present) = (shared.live.enter(), shared.present.enter());
    let links = Links::new(
        (coordinator, Control::new(control, resumed)),
        source,
        outlet,
        &open,
        (intake, works),
        shared.hop.hidden(),
    );
    let mut session = Session { shared: &shared, coordinator, registration: &registration, open: &open, links };
    let (end, tally) = Box::pin(session.serve(has_room)).await;
    let links = session.links;
    drop((live, registration));
    slot.free_tokens();
    tracing::debug!(session = %open.session, %coordinator, %span, ?end, ?tally, "session over");
    // The coordinator's place is kept until it has left: whoever makes sessions fail is held back too.
    part(links, end, tally).await;
    drop((slot, present));
}

/// Tells the other side why its stream is not wanted and waits until it has hung up.
pub(super) async fn refuse(link: &mut Link, fault: Fault) {
    let told = async {
        link.send(Frame::Fault(fault)).await?;
        loop {
            link.recv().await?;
        }
    };
    // Either way the stream is closed now.
    let _: Result<Result<(), LinkError>, _> = timeout(LINGER, told).await;
}

/// Checks everything that can be checked without asking the hop, and takes the session's places.
fn admit(shared: &Shared, coordinator: NodeId, open: &Open) -> Result<Admitted, Fault> {
    let served = shared.hop.span();
    if shared.is_draining() {
        return Err(Fault::Closed);
    }
    if open.protocol != PROTOCOL_VERSION {
        let reason = format!("protocol {} was asked for, this node speaks {PROTOCOL_VERSION}", open.protocol);
        return Err(Fault::Refused(reason));
    }
    if open.build != BUILD {
        return Err(Fault::Refused(format!("build {} was asked for, this node runs {BUILD}", open.build)));
    }
    if !served.covers(open.span) {
        return Err(Fault::Refused(format!("layers {} were asked for, this node serves {served}", open.span)));
    }
    if open.context_tokens == 0 {
        return Err(Fault::Refused("a session of 0 tokens was asked for".to_owned()));
    }
    let needed_tokens = open.context_tokens.into();
    let slot = shared.admission.enter(coordinator, Place::Session, needed_tokens).map_err(|no_place| {
        let free_tokens = match no_place {
            NoPlace::Places => 0,
            NoPlace::Tokens { left } => left,
        };
        Fault::Full { needed_tokens, free_tokens }
    })?;
    let upstream = match open.source {
        Source::Coordinator => None,
        Source::Peer(node) => Some(node),
    };
    let Registered { registration, attached, resumed } = shared
        .rendezvous
        .register(open.session, coordinator, upstream)
        .ok_or_else(|| Fault::Refused(format!("session {} is open here already", open.session)))?;
    Ok(Admitted { slot, registration, attached, resumed })
}

/// Waits for the upstream hop's stream and, once the shard has room, lets it send from `next_seq` on.
async fn take_source(
    attached: oneshot::Receiver<Link>,
    room: Option<oneshot::Receiver<()>>,
    next_seq: u64,
) -> Result<Box<Link>, String> {
    let take = async {
        let mut link = Box::new(attached.await.map_err(|_| "it hung up before the session began".to_owned())?);
        if let Some(room) = room {
            // The sender goes only with the session, and then this future goes too.
            let _ = room.await;
        }
        link.send(Frame::Attached { next_seq }).await.map_err(|error| error.to_string())?;
        Ok(link)
    };
    timeout(OPEN_DEADLINE, take).await.unwrap_or_else(|_| Err(format!("it did not attach within {OPEN_DEADLINE:?}")))
}

/// Opens the data stream to the next hop, over those of the addresses that the coordinator may name.
fn attaching(shared: &Arc<Shared>, coordinator: NodeId, session: SessionId, next: Next, number: Option<u64>) -> Sink {
    let (shared, node) = (Arc::clone(shared), next.node);
    let attached = async move {
        let attach = async {
            let may_name = |addr: &libp2p::Multiaddr| shared.dialer.may_name(coordinator, addr);
            let addrs = next.addrs.into_iter().filter(may_name).collect();
            let stream = shared.dialer.open(node, addrs).await.map_err(|error| error.to_string())?;
            let mut link = Link::new(stream, session);
            // Steps only go out here.
            link.limit_payload(0);
            link.send(Frame::Attach(Attach { session })).await.map_err(|error| error.to_string())?;
            match link.recv().await {
                Ok(Frame::Attached { next_seq }) => Ok((link, next_seq)),
                Ok(Frame::Fault(Fault::Refused(reason))) => Err(reason),
                Ok(frame) => Err(format!("{:?} frame where Attached was due", frame.kind())),
                Err(error) => Err(error.to_string()),
            }
        };
        let late = |_| Err(format!("it did not accept a stream within {CONNECT_DEADLINE:?}"));
        timeout(CONNECT_DEADLINE, attach).await.unwrap_or_else(late)
    };
    Sink::Attaching { node, number, attached: attached.boxed() }
}

/// A session that was admitted.
struct Session<'a> {
    shared: &'a Arc<Shared>,
    coordinator: NodeId,
    registration: &'a Registration,
    open: &'a Open,
    links: Links,
}

impl Session<'_> {
    /// The session while it has room at the hop; gives that back before it returns.
    async fn serve(&mut self, has_room: oneshot::Sender<()>) -> (End, Tally) {
        let hop = match self.begin(has_room).await {
            Ok(hop) => hop,
            Err(end) => return (end, Tally::default()),
        };
        let (end, hop) = self.drive(hop).await;
        let compute = match (&end, hop) {
            (End::Gone(_), _) | (_, None) => Duration::ZERO,
            (_, Some(hop)) => match timeout(ACCOUNT_DEADLINE, hop.close()).await {
                Ok(Ok(accounts)) => accounts.iter().map(|account| account.compute).sum(),
                Ok(Err(_)) | Err(_) => Duration::ZERO,
            },
        };
        if matches!(end, End::Close) {
            // Late ones go unpaid: the coordinator does not wait for ever.
            let deadline = Instant::now() + SETTLE_DEADLINE;
            loop {
                match timeout_at(deadline, self.links.settle()).await {
                    Ok(Ok(Some(node))) => self.switch(node),
                    Ok(Err(End::Gone(reason))) => return (End::Gone(reason), Tally::default()),
                    Ok(_) => break,
                    Err(_) => {
                        tracing::debug!(session = %self.open.session, "a neighbour did not hand in or take all works");
                        break;
                    }
                }
            }
        }
        let (steps, tokens) = self.links.finished();
        (end, Tally { tokens, steps, compute_us: u64::try_from(compute.as_micros()).unwrap_or(u64::MAX) })
    }

    /// Makes room at the hop while the next one is attached, then tells the coordinator.
    async fn begin(&mut self, has_room: oneshot::Sender<()>) -> Result<Box<dyn HopSession>, End> {
        let Self { shared, coordinator, registration, open, links } = self;
        let request = OpenSession {
            session: open.session,
            model: open.model,
            span: open.span,
            dtype: open.dtype,
            context_tokens: open.context_tokens,
        };
        let room = async {
            let opened = shared.hop.open_for(*coordinator, request).await;
            let session = opened.map_err(|error| End::Fault(error.into()))?;
            // Nobody listens at the first hop of a route.
            let _ = has_room.send(());
            Ok::<_, End>(session)
        };
        let (mut room, mut made) = (pin!(room), None);
        // The coordinator is listened to until both are done.
        let ready = poll_fn(|cx| {
            if made.is_none()
                && let Poll::Ready(session) = room.as_mut().poll(cx)?
            {
                made = Some(session);
            }
            match links.poll_attached(cx)? {
                Poll::Ready(()) if made.is_some() => Poll::Ready(Ok::<_, End>(made.take())),
                _ => Poll::Pending,
            }
        });
        let session = tokio::select! {
            ready = timeout(OPEN_DEADLINE, ready) => match ready {
                Ok(ready) => ready?,
                Err(_) => return Err(End::Fault(Fault::Device(format!("no room was made within {OPEN_DEADLINE:?}")))),
            },
            () = shared.stop.cancelled() => return Err(End::Fault(Fault::Closed)),
            () = registration.displaced() => return Err(displaced()),
        };
        links.open()?;
        session.ok_or(End::Fault(Fault::Closed))
    }

    /// Moves steps and results until the session ends. The shard's side is given back unless it was left within a submit.
    async fn drive(&mut self, mut hop: Box<dyn HopSession>) -> (End, Option<Box<dyn HopSession>>) {
        let idle = self.shared.config.idle;
        let mut idle_check = pin!(sleep(idle));
        let mut heard_bytes = self.links.received_bytes();
        let (mut computing, mut steps, mut steps_before) = (0_usize, 0_u64, 0_u64);
        let end = loop {
            tokio::select! {
                biased;
                done = hop.next(), if computing > 0 => match done {
                    Ok(done) => {
                        computing -= 1;
                        if let Err(end) = self.links.finish(done) {
                            break end;
                        }
                    }
                    Err(error) => break End::Fault(error.into()),
                },
                event = self.links.event(computing < MAX_STEPS_IN_FLIGHT) => match event {
                    Event::Step(step) => {
                        (computing, steps) = (computing + 1, steps + 1);
                        tokio::select! {
                            biased;
                            submitted = hop.submit(step) => if let Err(error) = submitted {
                                break End::Fault(error.into());
                            },
                            end = self.links.ended() => return (end, None),
                            () = self.shared.stop.cancelled() => return (End::Fault(Fault::Closed), None),
                        }
                    }
                    Event::Reroute(reroute) => {
                        if let Err(end) = self.reroute(*reroute) {
                            break end;
                        }
                    }
                    Event::Switch(node) => self.switch(node),
                    Event::End(end) => break end,
                },
                () = self.shared.stop.cancelled() => break End::Fault(Fault::Closed),
                () = self.registration.displaced() => break displaced(),
                () = &mut idle_check => {
                    let heard = self.links.received_bytes();
                    if computing == 0 && heard == heard_bytes {
                        break End::Gone(format!("nothing was heard of it for {idle:?}"));
                    }
                    if computing == 0 && steps == steps_before {
                        let reason = format!("no step came for {idle:?}: open the session again when there is one");
                        break End::Fault(Fault::Refused(reason));
                    }
                    (heard_bytes, steps_before) = (heard, steps);
                    idle_check.as_mut().reset(Instant::now() + idle);
                }
            }
        };
        (end, Some(hop))
    }

    /// Steps come over another stream of `node` from now on.
    fn switch(&mut self, node: NodeId) {
        let attached = self.registration.expect(node);
        self.links.take_from(node, take_source(attached, None, self.links.received()).boxed());
    }

    /// Another neighbour: what it lacks is sent again, by it or to it.
    fn reroute(&mut self, Reroute { number, source, next }: Reroute) -> Result<(), End> {
        tracing::debug!(session = %self.open.session, ?source, next = ?next.as_ref().map(|next| next.node), "rerouted");
        if let Some(node) = source {
            self.switch(node);
        }
        match next {
            Some(next) => {
                self.links.send_to(attaching(self.shared, self.coordinator, self.open.session, next, Some(number)));
                Ok(())
            }
            None => self.links.tell(Frame::Rerouted(Rerouted { number, attached: true })),
        }
    }
}

fn displaced() -> End {
    End::Gone("its coordinator opened it anew".to_owned())
}

/// Tells the coordinator of the end, for as long as it listens. The neighbours' streams stay open until then, so that
/// a neighbour does not take the end of this session for a failure of this node.
async fn part(mut links: Links, end: End, tally: Tally) {
    let left = match end {
        End::Gone(reason) => {
            tracing::debug!(reason, "nobody to part from");
            return;
        }
        End::Close => links.tell(Frame::Tally(tally)).map(|()| None),
        End::Fault(fault) => links.tell(Frame::Fault(fault)).map(|()| Some(tally)),
    };
    if let Ok(tally) = left {
        // Past the deadline the streams are closed whether it has read the reason or not.
        let _ = timeout(LINGER, links.linger(tally)).await;
    }
}
