//! `tradewind run`: plan, confirm, win a lease, stream its output.

mod follow;
mod request;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::envelope::{
    JobKey, SaltedManifest, SealContext, SealedFor, SealedJob, seal_job_key, seal_manifest,
    system_rng,
};
use api::jobfile::JobFile;
use api::{AccountView, Code, ExplanationView, KeeperView, ManifestClaim, OfferFilter};
use market::{DeviceNeed, JobId, JobSpec, Money, Tx};

use crate::context::Context;
use crate::error::{Failure, Result, exit, nearest};
use crate::explain;
use crate::labels;
use crate::progress::Progress;
use crate::session::{NONCE_ATTEMPTS, Session, block_on, is_nonce_race};
use crate::wallet::Wallet;
use crate::words;

pub(crate) use follow::{Ended, Follow};
pub(crate) use request::{Args, Request, Wanted, spec};

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    let wanted = args.wanted.job()?;
    if wanted.image.is_none() {
        return Err(request::no_image());
    }
    let wallet = context.wallet()?;
    require_consent_possible(context, args, &wanted)?;
    block_on(async {
        let session = Session::open(context).await?;
        let progress = Progress::new(&context.output);
        progress.phase("image", wanted.image.clone().unwrap_or_default());
        let mut request = Request::of(&args.wanted, wanted).await?;
        let account = session.acting_for(&wallet).await?;
        let account = session.client.account(&account).await?;
        plan(context, args, &session, &account, &mut request, &progress).await?;
        let after = session.client.status().await?.next_event.checked_sub(1);
        let job = submit(&session, &wallet, &request).await?;
        labels::keep(&context.home, job, &request.labels)?;
        if args.detach {
            let view = session.client.job(&job.to_string()).await?;
            progress.done("job", &format!("{job}; follow it: tradewind logs -f {job}"));
            drop(progress);
            if context.output.is_json() {
                context.output.result(&view, &job.to_string())?;
            } else {
                context.output.line(&job.to_string());
            }
            return Ok(exit::DONE);
        }
        let follow = Follow {
            session: &session,
            wallet: &wallet,
            output: &context.output,
            job,
            after,
        };
        let Some(ended) = follow.until_ended(progress).await? else {
            return Ok(exit::INTERRUPTED);
        };
        finish(context, &session, job, ended).await
    })
}

/// Without a terminal nobody can be asked: then the command line, or the job file, must agree to a price beforehand.
fn require_consent_possible(context: &Context, args: &Args, wanted: &JobFile) -> Result<()> {
    if args.yes || wanted.budget.is_some() || context.output.can_ask() {
        return Ok(());
    }
    Err(Failure::new(
        "needs-consent",
        "this would spend money, and nobody can be asked",
    )
    .hint("say the most it may cost: --budget 0.50")
    .hint("or agree to the plan unseen: -y"))
}

/// Finds what matches, fixes the budget, and asks.
pub(crate) async fn plan(
    context: &Context,
    args: &Args,
    session: &Session,
    account: &AccountView,
    request: &mut Request,
    progress: &Progress,
) -> Result<()> {
    let keeper = session.status.keeper.as_ref().map(KeeperView::keeper);
    let keeper = keeper.ok_or_else(|| {
        Failure::new(
            "not-keeper",
            format!("{} keeps no manifests", session.client.endpoint()),
        )
    })?;
    request.spec.keepers = vec![keeper];
    let explanation = match_offers(session, &mut request.spec, account).await?;
    if explanation.matching == 0 && !request.waits {
        progress.failed("plan", "nothing matches");
        return Err(no_match(session, &request.spec, &explanation).await);
    }
    progress.done("plan", &summary(&request.spec, &explanation));
    if args.yes || !context.output.can_ask() {
        return Ok(());
    }
    if explanation.matching > 0 {
        let table = explain::plan_table(&explanation, explain::SHOWN, context.output.arrow());
        context.output.say_table(&table);
        if let Some(more) = explain::more(&explanation) {
            context.output.say(&more);
        }
    } else {
        context
            .output
            .say(explain::plan_lines(&explanation).trim_end());
    }
    let question = format!(
        "hold {} of {} available in {} (context {})?",
        request.spec.budget,
        account.available,
        session.network(),
        context.name(),
    );
    if context.output.ask(&question) {
        return Ok(());
    }
    Err(Failure::new("declined", "not started; nothing was spent"))
}

/// Asks what matches, and fixes the budget of a job that has none: the most that the best match can cost.
pub(crate) async fn match_offers(
    session: &Session,
    spec: &mut JobSpec,
    account: &AccountView,
) -> Result<ExplanationView> {
    let given = !spec.budget.is_zero();
    if !given {
        // The plan shows what it would cost at most with all there is; the budget is then that.
        spec.budget = account.available.0;
    }
    let explanation = session.client.explain_for(spec, &account.id).await?;
    if !given {
        let worst = explanation
            .matches
            .first()
            .map(|best| best.worst_case.0)
            .filter(|worst| !worst.is_zero());
        spec.budget = worst
            .unwrap_or(account.available.0)
            .min(account.available.0);
    }
    Ok(explanation)
}

/// Returns the failure of a plan that matches nothing; where the model is for hire nowhere, with the one that may have
/// been meant.
pub(crate) async fn no_match(
    session: &Session,
    spec: &JobSpec,
    explanation: &ExplanationView,
) -> Failure {
    let failure = explain::no_match(explanation);
    let DeviceNeed::Gpu { models, .. } = &spec.needs.device else {
        return failure;
    };
    // A suggestion is a courtesy: where the offers cannot be had, it is left out.
    let Ok(page) = session.client.offers(&OfferFilter::default()).await else {
        return failure;
    };
    let hired: BTreeSet<&str> = page
        .items
        .iter()
        .map(|offer| offer.model.as_str())
        .collect();
    let unknown = models.iter().find(|model| !hired.contains(model.as_str()));
    match unknown.and_then(|model| nearest(model.as_str(), hired.iter().copied())) {
        Some(model) => failure.hint(format!("did you mean: --gpu {model}")),
        None => failure,
    }
}

fn summary(spec: &JobSpec, explanation: &ExplanationView) -> String {
    let price = explanation.matches.first().map_or_else(
        || "nothing matches yet".to_owned(),
        |best| {
            let amount = words::show_amount(best.per_device_hour.0);
            format!(
                "{} of {} offers match, best ${amount}/device·h",
                explanation.matching, explanation.offers
            )
        },
    );
    format!(
        "{price}; ×{}, at most {} and {}",
        spec.needs.count,
        spec.budget,
        words::show_duration(spec.duration_max),
    )
}

/// Seals the manifest for the keeper, then opens the job; both know the job's id from signer and nonce.
pub(crate) async fn submit(session: &Session, wallet: &Wallet, request: &Request) -> Result<JobId> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let nonce = session.client.next_nonce(&wallet.public()).await?;
        let job = JobId::created_by(&wallet.public(), nonce);
        let (spec, sealed) = seal(session, request, job)?;
        // First the manifest: a machine may ask for it in the moment in which the job is placed.
        // A keeper that has no room for what belongs to no job yet takes it afterwards.
        let claim = ManifestClaim::sign(session.network(), wallet.key(), nonce, &sealed);
        let first = session.client.stage_manifest(&job, &sealed, &claim).await;
        if let Err(error) = first
            && error.code() != Some(api::Code::KeeperFull)
        {
            return Err(error.into());
        }
        match session.submit_at(wallet, nonce, Tx::OpenJob(spec)).await {
            Ok(_receipt) => {
                // Once more now that the job is final: what came before it was kept in memory only, and a keeper that
                // died in between has lost it. Sending it twice changes nothing, and a job that has ended already
                // needs none any more.
                let again = session.client.put_manifest(&job, &sealed).await;
                return match again {
                    Err(error) if error.code() != Some(Code::JobEnded) => Err(error.into()),
                    _ => Ok(job),
                };
            }
            Err(error) if is_nonce_race(&error) && attempts < NONCE_ATTEMPTS => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn seal(session: &Session, request: &Request, job: JobId) -> Result<(JobSpec, SealedJob)> {
    let mut rng = system_rng();
    let bad = |error: &dyn std::error::Error| {
        Failure::new("bad-manifest", format!("the job cannot be sealed: {error}"))
    };
    let salted = SaltedManifest::new(&request.manifest, &mut rng).map_err(|error| bad(&error))?;
    let key = JobKey::generate(&mut rng);
    let manifest = seal_manifest(&mut rng, &key, session.network(), &salted);
    let keeper = request
        .spec
        .keepers
        .first()
        .expect("the plan names the keeper");
    let context = SealContext {
        network: session.network(),
        to: SealedFor::Keeper(job),
    };
    let key = seal_job_key(&mut rng, &keeper.seal, &context, &key).map_err(|error| bad(&error))?;
    let spec = JobSpec {
        manifest: salted.digest(),
        ..request.spec.clone()
    };
    Ok((spec, SealedJob { key, manifest }))
}

/// Says how it ended and what it cost, and returns the workload's own exit code.
pub(crate) async fn finish(
    context: &Context,
    session: &Session,
    job: JobId,
    ended: Ended,
) -> Result<u8> {
    let output = Arc::clone(&context.output);
    if output.is_json() {
        let view = session.client.job(&job.to_string()).await?;
        output.result(&view, &job.to_string())?;
    }
    let Ended {
        reason,
        charged,
        returned,
        ran_ms,
    } = &ended;
    let cost = format!(
        "ran {}, charged {charged}, returned {returned}",
        words::show_duration(market::Millis::from_millis(*ran_ms)),
    );
    let what = match reason.code.as_str() {
        "completed" => {
            output.say(&format!(
                "{} {:10} {cost}",
                output.mark(crate::output::Style::Good),
                "done"
            ));
            return Ok(exit::DONE);
        }
        "failed" => {
            let code = reason.exit_code.unwrap_or(exit::FAILED);
            let mark = output.mark(crate::output::Style::Bad);
            output.say(&format!("{mark} {:10} exit code {code}; {cost}", "failed"));
            return Ok(code);
        }
        "no-match" => Failure::new(
            "no-match",
            format!("job {job} found no machine in its waiting time"),
        ),
        "budget-reached" => Failure::new("budget-reached", format!("job {job} used up its budget")),
        "image-error" => Failure::new(
            "image-error",
            format!("no machine could start the image of job {job}"),
        )
        .hint(format!("see what they said: tradewind logs {job}"))
        .hint("what their codes mean: tradewind help CODE"),
        "cancelled" => Failure::new("job-failed", format!("job {job} was cancelled")),
        other => Failure::new("job-failed", format!("job {job} ended: {other}"))
            .exiting(exit::RUN_FAILED),
    };
    Err(what.detail(cost).charged_if(*charged))
}

impl Failure {
    /// Says what was charged, where it was anything.
    fn charged_if(self, amount: Money) -> Self {
        if amount.is_zero() {
            self
        } else {
            self.charged(amount)
        }
    }
}
