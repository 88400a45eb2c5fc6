//! Makes an account a provider and this folder its machine; every function may be run again.
//!
//! Signed by the account's owner or provider key. The long-running agent needs only the machine's keys.

use api::{Client, ClientError, Code, MachineView, OfferFilter, OfferView};
use ed25519_dalek::SigningKey;
use market::{
    AccountId, ByteSize, MachineId, MachineSpec, Millis, Money, Name, NetworkName, Offer, OfferId,
    OfferTerms, PricePerGib, Prices, PublicKey, Rate, Timestamp, Tx,
};

use crate::{
    inventory::{HostError, Inventory, Listing, MachineFacts, Offered, machine_spec},
    journal::{Identity, Journal, JournalError},
    pricing::{Policy, offer_changes},
    submit::{SubmitError, Submitter, now},
};

/// Pages of one list that are read: a provider has at most some thousand machines or offers.
const PAGES_MAX: usize = 64;

/// What a provider wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The name shown to tenants.
    pub name: Name,
    /// What the bond shall be at least.
    pub bond: Money,
    /// What of the machine is offered.
    pub listing: Listing,
    /// At what prices.
    pub policy: Policy,
}

/// What setup found or made.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The provider's account.
    pub account: AccountId,
    /// The machine.
    pub machine: MachineId,
    /// What is offered of it, and what not.
    pub offered: Offered,
    /// Steps that changed the ledger, in words: empty when everything stood already.
    pub changed: Vec<String>,
}

/// Where a provider's machine stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its record.
    pub machine: MachineView,
    /// Its offers.
    pub offers: Vec<OfferView>,
    /// Its live leases.
    pub leases: Vec<api::WorkView>,
    /// The provider.
    pub provider: api::ProviderView,
    /// The account's balances.
    pub account: api::AccountView,
}

/// Why setup did not come to its end; what was done stays done, and it may be run again.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The gateway did not answer, or refused.
    #[error("could not {what}")]
    Ask {
        /// What was asked.
        what: &'static str,
        /// Why not.
        #[source]
        source: ClientError,
    },
    /// A transaction had no effect.
    #[error("could not {what}")]
    Submit {
        /// What was wanted.
        what: &'static str,
        /// Why not.
        #[source]
        source: SubmitError,
    },
    /// The folder cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The machine could not be measured.
    #[error(transparent)]
    Measure(#[from] HostError),
    /// The network does not know the key: its account has no money yet.
    #[error("the network does not know {key}: fund its account first")]
    UnknownKey {
        /// The key.
        key: PublicKey,
    },
    /// The folder has no machine yet.
    #[error("no machine is registered in this folder")]
    NotRegistered,
}

impl SetupError {
    /// Returns the stable code of the ledger's refusal, if it was one.
    pub fn refusal(&self) -> Option<Code> {
        match self {
            Self::Submit { source, .. } => source.refusal(),
            _ => None,
        }
    }
}

/// A provider's key at work.
#[derive(Debug)]
pub struct Provider {
    submitter: Submitter,
    client: Client,
    network: NetworkName,
    account: AccountId,
}

impl Provider {
    /// Looks up for which account `key` acts.
    ///
    /// # Errors
    /// [`SetupError::UnknownKey`] where the network does not know it.
    pub async fn of_key(client: Client, key: SigningKey) -> Result<Self, SetupError> {
        let status = client
            .status()
            .await
            .map_err(ask("ask for the network's status"))?;
        let public = PublicKey::of(&key);
        let view = client.key(&public).await.map_err(ask("look up the key"))?;
        let account = view.account.ok_or(SetupError::UnknownKey { key: public })?;
        Ok(Self {
            submitter: Submitter::new(client.clone(), status.network.clone(), key),
            client,
            network: status.network,
            account,
        })
    }

    /// Returns the account.
    pub const fn account(&self) -> AccountId {
        self.account
    }

    /// Brings the ledger to the plan: opens the provider, posts what the bond lacks, adds or updates the machine, and
    /// places, renews or withdraws offers. Changes only what differs.
    ///
    /// # Errors
    /// [`SetupError`]; run it again once the cause is mended.
    pub async fn init(
        &mut self,
        journal: &mut Journal,
        inventory: &Inventory,
        runtime: &runtime::Capabilities,
        plan: &Plan,
    ) -> Result<Ready, SetupError> {
        let mut changed = Vec::new();
        self.open(plan, &mut changed).await?;
        self.bond(plan, &mut changed).await?;
        let facts = MachineFacts {
            network: &self.network,
            sign: &journal.keys().public().sign,
            runtime,
        };
        let offered = machine_spec(inventory, &plan.listing, facts);
        let machine = self.machine(journal, &offered.spec, &mut changed).await?;
        self.offers(machine, &offered.spec, &plan.policy, &mut changed)
            .await?;
        Ok(Ready {
            account: self.account,
            machine,
            offered,
            changed,
        })
    }

    /// Returns what the ledger says of a machine.
    ///
    /// # Errors
    /// [`SetupError::Ask`].
    pub async fn machine_view(&self, machine: MachineId) -> Result<MachineView, SetupError> {
        let view = self.client.machine(&machine).await;
        view.map_err(ask("look up the machine"))
    }

    /// Brings what the ledger says of the machine `view`, which runs, to what was measured and is planned: its devices and
    /// its offers. Returns what changed, in words.
    ///
    /// Where it is dialled stays, and so does its disk: that shrinks and grows with what leases write.
    ///
    /// # Errors
    /// [`SetupError`]; with [`Code::MachineBusy`] where a device is gone that a lease holds.
    pub async fn refresh(
        &mut self,
        view: &MachineView,
        sign: &PublicKey,
        inventory: &Inventory,
        runtime: &runtime::Capabilities,
        plan: &Plan,
    ) -> Result<Vec<String>, SetupError> {
        let facts = MachineFacts {
            network: &self.network,
            sign,
            runtime,
        };
        let mut spec = machine_spec(inventory, &plan.listing, facts).spec;
        spec.dial.clone_from(&view.dial);
        spec.disk = ByteSize::from_bytes(view.disk_bytes);
        let mut changed = Vec::new();
        if !same_machine(view, &spec) {
            let update = Tx::UpdateMachine {
                machine: view.id,
                spec: spec.clone(),
            };
            self.say(update, "update the machine").await?;
            changed.push(format!("updated {}", view.id));
        }
        self.offers(view.id, &spec, &plan.policy, &mut changed)
            .await?;
        Ok(changed)
    }

    async fn open(&mut self, plan: &Plan, changed: &mut Vec<String>) -> Result<(), SetupError> {
        let account = self
            .client
            .account(&self.account)
            .await
            .map_err(ask("look up the account"))?;
        if account.is_provider {
            return Ok(());
        }
        let name = plan.name.clone();
        changed.push(format!("opened provider {name}"));
        match self.submitter.submit(&Tx::OpenProvider { name }).await {
            Err(error) if error.refusal() == Some(Code::AlreadyProvider) => Ok(()),
            result => result.map(drop).map_err(submit("open the provider")),
        }
    }

    async fn bond(&mut self, plan: &Plan, changed: &mut Vec<String>) -> Result<(), SetupError> {
        let account = self
            .client
            .account(&self.account)
            .await
            .map_err(ask("look up the account"))?;
        let amount = plan.bond.saturating_sub(account.bonded.0);
        if amount.is_zero() {
            return Ok(());
        }
        self.say(Tx::PostBond { amount }, "post the bond").await?;
        changed.push(format!("posted a bond of {amount}"));
        Ok(())
    }

    /// Finds the machine by its sign key, or adds it; then writes down which it is.
    async fn machine(
        &mut self,
        journal: &mut Journal,
        spec: &MachineSpec,
        changed: &mut Vec<String>,
    ) -> Result<MachineId, SetupError> {
        let known = journal.machine_on(&self.network)?;
        let keys = journal.keys().public();
        let found = self.find_machine(&keys.sign).await?;
        let machine = if let Some(view) = found {
            if !same_machine(&view, spec) {
                let update = Tx::UpdateMachine {
                    machine: view.id,
                    spec: spec.clone(),
                };
                self.say(update, "update the machine").await?;
                changed.push(format!("updated {}", view.id));
            }
            view.id
        } else {
            let add = Tx::AddMachine {
                keys,
                spec: spec.clone(),
            };
            let nonce = self.say(add, "add the machine").await?;
            let id = MachineId::created_by(&self.submitter.key(), nonce);
            changed.push(format!("added {id}"));
            id
        };
        if known != Some(machine) {
            journal.state.identity = Some(Identity {
                network: self.network.clone(),
                machine,
            });
            journal.save()?;
        }
        Ok(machine)
    }

    async fn find_machine(&self, sign: &PublicKey) -> Result<Option<MachineView>, SetupError> {
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let page = self
                .client
                .machines(Some(&self.account), after.as_deref())
                .await;
            let page = page.map_err(ask("list the machines"))?;
            let ours = page
                .items
                .into_iter()
                .find(|m| m.sign_key == *sign && m.state != "retired");
            if ours.is_some() || page.next.is_none() {
                return Ok(ours);
            }
            after = page.next;
        }
        Ok(None)
    }

    async fn offers(
        &mut self,
        machine: MachineId,
        spec: &MachineSpec,
        policy: &Policy,
        changed: &mut Vec<String>,
    ) -> Result<(), SetupError> {
        let standing = offers_of(&self.client, machine).await?;
        let standing: Vec<Offer> = standing.iter().map(offer_of).collect();
        let changes = offer_changes(policy, machine, spec, &standing, now());
        for offer in changes.withdraw {
            self.say(Tx::WithdrawOffer { offer }, "withdraw an offer")
                .await?;
            changed.push(format!("withdrew {offer}"));
        }
        for terms in changes.place {
            let nonce = self.say(Tx::PlaceOffer(terms), "place an offer").await?;
            let id = OfferId::created_by(&self.submitter.key(), nonce);
            changed.push(format!("placed {id}"));
        }
        Ok(())
    }

    /// Takes the machine out of matching; with `evict_at`, what still runs then ends as drained.
    ///
    /// # Errors
    /// [`SetupError::Submit`].
    pub async fn drain(
        &mut self,
        machine: MachineId,
        evict_at: Option<Timestamp>,
    ) -> Result<(), SetupError> {
        self.say(Tx::DrainMachine { machine, evict_at }, "drain the machine")
            .await
            .map(drop)
    }

    /// Puts a drained machine back into matching.
    ///
    /// # Errors
    /// [`SetupError::Submit`].
    pub async fn resume(&mut self, machine: MachineId) -> Result<(), SetupError> {
        self.say(Tx::ResumeMachine { machine }, "resume the machine")
            .await
            .map(drop)
    }

    async fn say(&mut self, call: Tx, what: &'static str) -> Result<u64, SetupError> {
        let (_, nonce) = self.submitter.submit(&call).await.map_err(submit(what))?;
        Ok(nonce)
    }
}

/// Returns where a machine stands.
///
/// # Errors
/// [`SetupError::Ask`].
pub async fn standing(client: &Client, machine: MachineId) -> Result<Standing, SetupError> {
    let view = client
        .machine(&machine)
        .await
        .map_err(ask("look up the machine"))?;
    let leases = client
        .machine_leases(&machine)
        .await
        .map_err(ask("list the leases"))?;
    let provider = client
        .provider(&view.provider)
        .await
        .map_err(ask("look up the provider"))?;
    let account = client
        .account(&view.provider)
        .await
        .map_err(ask("look up the account"))?;
    Ok(Standing {
        offers: offers_of(client, machine).await?,
        leases: leases.items,
        machine: view,
        provider,
        account,
    })
}

async fn offers_of(client: &Client, machine: MachineId) -> Result<Vec<OfferView>, SetupError> {
    let mut filter = OfferFilter {
        machine: Some(machine),
        ..OfferFilter::default()
    };
    let mut all = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = client
            .offers(&filter)
            .await
            .map_err(ask("list the offers"))?;
        all.extend(page.items);
        if page.next.is_none() {
            break;
        }
        filter.after = page.next;
    }
    Ok(all)
}

/// Reads a view back into the record that it was made from, as far as [`offer_changes`] compares.
fn offer_of(view: &OfferView) -> Offer {
    let prices = Prices {
        per_device_hour: Rate::from_micros_per_hour(view.prices.per_device_hour.0.micros()),
        per_gib_hour: Rate::from_micros_per_hour(view.prices.per_gib_hour.0.micros()),
        per_gib_out: PricePerGib::from_micros_per_gib(view.prices.per_gib_out.0.micros()),
    };
    Offer {
        id: view.id,
        seq: 0,
        provider: view.provider,
        terms: OfferTerms {
            machine: view.machine,
            devices: view.devices.clone(),
            tier: view.tier,
            prices,
            term_min: Millis::from_millis(view.term_min_ms),
            term_max: Millis::from_millis(view.term_max_ms),
            preempt_notice: Millis::from_millis(view.preempt_notice_ms),
            sla: view.sla,
            expires_at: view.expires_at.0,
        },
    }
}

/// Tells whether the ledger says of the machine what was measured. Disk shrinks and grows by itself: a tenth is the same.
fn same_machine(view: &MachineView, spec: &MachineSpec) -> bool {
    let same_devices = view.devices.len() == spec.devices.len()
        && view.devices.iter().zip(&spec.devices).all(|(v, d)| {
            let said = (v.class, &v.model, v.vram_bytes, v.interface, v.fabric);
            let measured = (d.class, &d.model, d.vram.bytes(), d.interface, d.fabric);
            said == measured && v.identity == d.identity
        });
    same_devices
        && view.cpu_milli == spec.cpu.milli()
        && view.memory_bytes == spec.memory.bytes()
        && view.disk_bytes.abs_diff(spec.disk.bytes()) <= view.disk_bytes / 10
        && view.isolation == spec.isolation
        && view.runtime == spec.runtime
        && view.region == spec.region
        && view.facility == spec.facility
        && view.failure_domain == spec.failure_domain
        && view.dial == spec.dial
}

fn ask(what: &'static str) -> impl FnOnce(ClientError) -> SetupError {
    move |source| SetupError::Ask { what, source }
}

fn submit(what: &'static str) -> impl FnOnce(SubmitError) -> SetupError {
    move |source| SetupError::Submit { what, source }
}
