//! Placement.

use crate::convert::{ConvertError, enum_of, enums, list, parse, parse_list, texts, to_list};
use crate::pb;
use crate::spec::{Affinity, Placement, Platform, Preference, Relation, Scope, Selector, Strategy};
use pb::affinity::{Label, With};

enums! {
    Strategy = pb::Strategy { Pack, Spread }
    Relation = pb::affinity::Relation { Together, Apart }
}

impl From<&Placement> for pb::Placement {
    fn from(placement: &Placement) -> Self {
        let spread = placement.preferences.iter().map(|Preference::Spread(by)| by.clone());
        Self {
            constraints: texts(&placement.constraints),
            spread: spread.collect(),
            max_replicas_per_node: placement.max_replicas_per_node,
            platforms: to_list(&placement.platforms),
            strategy: placement.strategy.map(|strategy| pb::Strategy::from(strategy).into()),
            affinity: to_list(&placement.affinity),
            gang: placement.gang,
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
            strategy: match message.strategy {
                Some(strategy) => Some(enum_of::<pb::Strategy>(strategy, "strategy")?.into()),
                None => None,
            },
            affinity: list(message.affinity, "affinity")?,
            gang: message.gang,
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

impl From<&Affinity> for pb::Affinity {
    fn from(rule: &Affinity) -> Self {
        let with = match &rule.with {
            Selector::Service(name) => With::Service(name.to_string()),
            Selector::Label { key, value } => With::Label(Label { key: key.clone(), value: value.clone() }),
        };
        Self {
            relation: pb::affinity::Relation::from(rule.relation).into(),
            with: Some(with),
            scope: match &rule.scope {
                Scope::Node => None,
                Scope::Attribute(attribute) => Some(attribute.clone()),
            },
            required: rule.required,
        }
    }
}

impl TryFrom<pb::Affinity> for Affinity {
    type Error = ConvertError;

    fn try_from(message: pb::Affinity) -> Result<Self, ConvertError> {
        let with = match message.with {
            Some(With::Service(name)) => Selector::Service(parse(&name, "service")?),
            Some(With::Label(Label { key, value })) => Selector::Label { key, value },
            None => return Err(ConvertError::new("with", "is missing or newer than this version")),
        };
        Ok(Self {
            relation: enum_of::<pb::affinity::Relation>(message.relation, "relation")?.into(),
            with,
            scope: message.scope.map_or(Scope::Node, Scope::Attribute),
            required: message.required,
        })
    }
}
