//! How lists are paged: what a caller may ask for, and what a page says of the next one. It knows nothing of what is listed.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes them")]

use crate::api::problem::Problem;
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use utoipa::{IntoParams, ToSchema};

/// How many items a page has at most.
const PAGE_MAX: usize = 500;
const PAGE: usize = 100;

/// A list, and where the next one begins.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What `after` has to be for those that follow, of blocks `below`; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The first `limit` of what follows in a list, each with its name for `after`.
    pub(crate) fn first(items: impl Iterator<Item = (String, T)>, limit: usize) -> Page<T> {
        let (mut names, mut views): (Vec<String>, Vec<T>) = items.take(limit + 1).unzip();
        names.truncate(limit);
        let next = names.pop().filter(|_| views.len() > limit);
        views.truncate(limit);
        Page { items: views, next }
    }

    /// The first `limit` of `items`; one more says that there is a next page, which begins after the last one shown.
    pub(crate) fn cut(mut items: Vec<T>, limit: usize, name: impl Fn(&T) -> String) -> Page<T> {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(name);
        Page { items, next }
    }
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// The `next` of the page before.
    pub(crate) after: Option<String>,
    /// How many at most: 1 to 500, 100 where absent.
    pub(crate) limit: Option<usize>,
}

impl ListParams {
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(PAGE) {
            limit if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
            _ => Err(Problem::new("query_invalid").detail(format!("'limit' is 1 to {PAGE_MAX}"))),
        }
    }

    /// What the page begins after, as `read` understands it.
    pub(crate) fn after<K>(&self, read: impl FnOnce(&str) -> Option<K>) -> Result<Option<K>, Problem> {
        let Some(text) = self.after.as_deref() else { return Ok(None) };
        let after =
            read(text).ok_or_else(|| Problem::new("query_invalid").detail("'after' is the 'next' of a page"))?;
        Ok(Some(after))
    }

    /// Where a page of a list in rising order begins.
    pub(crate) fn start<K>(&self, read: impl FnOnce(&str) -> Option<K>) -> Result<Bound<K>, Problem> {
        Ok(self.after(read)?.map_or(Bound::Unbounded, Bound::Excluded))
    }

    /// The part of a list that the search tables keep.
    pub(crate) fn span<K>(&self, read: impl FnOnce(&str) -> Option<K>) -> Result<Span<K>, Problem> {
        Ok(Span { limit: self.limit()?, after: self.after(read)? })
    }
}

/// Which part of a list: what follows upon `after`, at most `limit`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<K> {
    pub(crate) after: Option<K>,
    pub(crate) limit: usize,
}

impl<K> Span<K> {
    /// How many to ask for: one more than is shown says whether there are more.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.limit + 1).unwrap_or(u32::MAX)
    }
}

/// A small number of a list that is ordered by it.
pub(crate) fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}
