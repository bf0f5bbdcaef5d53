//! Placement.

use crate::convert::{ConvertError, parse_list, texts, to_list};
use crate::pb;
use crate::spec::{Placement, Platform, Preference};

impl From<&Placement> for pb::Placement {
    fn from(placement: &Placement) -> Self {
        let spread = placement.preferences.iter().map(|Preference::Spread(by)| by.clone());
        Self {
            constraints: texts(&placement.constraints),
            spread: spread.collect(),
            max_replicas_per_node: placement.max_replicas_per_node,
            platforms: to_list(&placement.platforms),
        }
    }
}

impl TryFrom<pb::Placement> for Placement {
    type Error = ConvertError;

    fn try_from(message: pb::Placement) -> Result<Self, ConvertError> {
        Ok(Self {
            constraints: parse_list(&message.constraints, "constraints")?,
            preferences: message.spread.into_iter().map(Preference::Spread).collect(),
            max_replicas_per_node: message.max_replicas_per_node,
            platforms: message.platforms.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&Platform> for pb::Platform {
    fn from(platform: &Platform) -> Self {
        let Platform { os, architecture } = platform.clone();
        Self { os, architecture }
    }
}

impl From<pb::Platform> for Platform {
    fn from(pb::Platform { os, architecture }: pb::Platform) -> Self {
        Self { os, architecture }
    }
}
