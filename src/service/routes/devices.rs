//! The devices of the machine: which searches have workers on them, and which are taken away for now.

use std::collections::BTreeMap;

use actix_web::web::{Data, Json, Path, Payload};
use actix_web::{HttpRequest, get, put};
use serde::{Deserialize, Serialize};
use spnas_actors::Leave;
use spnas_actors::device::Place;
use utoipa::ToSchema;

use super::refusals::OfBody;
use crate::service::Service;
use crate::service::body;
use crate::service::problem::Problem;
use crate::service::record::SearchId;

/// A device.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceView {
    /// Its name.
    #[schema(example = "cuda:0")]
    device: String,
    /// Whether searches may use it.
    in_use: bool,
    /// Workers that have a trial on it.
    busy: usize,
    /// The searches that run now and have workers there.
    searches: Vec<SearchId>,
}

/// What is to become of a device.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceUse {
    /// Whether searches may use it.
    in_use: bool,
    /// How the trials leave it that are there.
    #[serde(default)]
    leave: LeaveSpec,
}

/// How a trial leaves a device that is taken away.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LeaveSpec {
    /// At its next step; it goes on elsewhere from its last checkpoint.
    #[default]
    AtNextStep,
    /// When its attempt has ended.
    AfterAttempt,
}

/// The devices on which searches run now, and those that are taken away.
#[utoipa::path(tag = "service", responses((status = 200, body = Vec<DeviceView>)))]
#[get("/v1/devices")]
pub(crate) async fn list_devices(service: Data<Service>) -> Result<Json<Vec<DeviceView>>, Problem> {
    service.block(|service| Ok(Json(views(service).into_values().collect()))).await
}

/// Takes a device away from all searches, those to come included, or gives it back. Trials lose nothing by it. Searches that
/// have no other device wait. It holds until the service ends.
#[utoipa::path(
    tag = "service", params(("device" = String, Path, example = "cuda:0")), request_body = DeviceUse,
    responses((status = 200, body = DeviceView), OfBody)
)]
#[put("/v1/devices/{device}")]
pub(crate) async fn set_device(
    request: HttpRequest,
    payload: Payload,
    service: Data<Service>,
    device: Path<String>,
) -> Result<Json<DeviceView>, Problem> {
    let place = device.parse().ok().filter(is_likely).ok_or_else(|| {
        Problem::malformed(format!("`{device}` is no device: cuda:0 is the first GPU, cpu:0 the first share"))
    })?;
    let DeviceUse { in_use, leave } = body::json(&request, payload, service.limits.body).await?;
    let leave = match leave {
        LeaveSpec::AtNextStep => Leave::AtNextStep,
        LeaveSpec::AfterAttempt => Leave::AfterAttempt,
    };
    let away = (!in_use).then_some(leave);
    service
        .block(move |service| {
            service.registry.set_device(&place, away);
            let view = views(service).remove(&place);
            Ok(Json(view.unwrap_or_else(|| DeviceView::of(&place, in_use))))
        })
        .await
}

/// More devices than any machine has, or shares of its processor than a configuration may name.
const MOST: u32 = 1024;

fn is_likely(place: &Place) -> bool {
    match place {
        Place::Cpu { index: number } | Place::Cuda { ordinal: number } => *number < MOST,
        Place::Simulated { .. } => false,
    }
}

impl DeviceView {
    fn of(place: &Place, in_use: bool) -> Self {
        Self { device: place.to_string(), in_use, busy: 0, searches: Vec::new() }
    }
}

fn views(service: &Service) -> BTreeMap<Place, DeviceView> {
    let away = service.registry.away();
    let mut devices: BTreeMap<Place, DeviceView> =
        away.keys().map(|place| (place.clone(), DeviceView::of(place, false))).collect();
    for hosted in service.registry.all() {
        // The trials of a study are on its clients' devices.
        let Some(now) = hosted.now().filter(|_| hosted.is_running() && hosted.desk().is_none()) else { continue };
        let id = hosted.record().id;
        for worker in now.activities.read() {
            let view = devices.entry(worker.device.clone()).or_insert_with(|| DeviceView::of(&worker.device, true));
            view.busy += usize::from(worker.activity.is_some());
            if view.searches.last() != Some(&id) {
                view.searches.push(id.clone());
            }
        }
    }
    devices
}
