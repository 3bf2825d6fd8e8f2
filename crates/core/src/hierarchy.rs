//! The tree of domains. Nothing outside this module knows that petgraph holds it.

use crate::id::DomainId;
use crate::limits::MAX_DEPTH;
use crate::name::{DomainName, DomainPath};
use crate::row::Domain;
use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::Dfs;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A tree of domains with one root. Edges run from a domain to its subdomains.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    graph: StableDiGraph<Node, ()>,
    nodes: BTreeMap<DomainId, NodeIndex>,
    names: BTreeMap<(DomainId, DomainName), DomainId>,
}

#[derive(Clone, Debug)]
struct Node {
    domain: Domain,
    /// See [`Hierarchy::ancestry`].
    ancestry: Arc<[DomainId]>,
}

/// Why a domain can't be put or taken where it was meant. The tree is as it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TreeError {
    /// No domain has this id.
    #[error("there is no domain with id {0:?}")]
    Unknown(DomainId),
    /// A sibling has the name already.
    #[error("the parent has a subdomain of that name already")]
    NameTaken,
    /// It would become its own ancestor.
    #[error("it would lie inside itself")]
    Cycle,
    /// The root stays where it is.
    #[error("the root cannot be moved, renamed or removed")]
    Root,
    /// It has subdomains.
    #[error("it has subdomains")]
    NotEmpty,
    /// A domain would lie deeper than [`MAX_DEPTH`].
    #[error("a domain would lie {0} levels deep: at most {MAX_DEPTH} are allowed")]
    TooDeep(usize),
}

impl Default for Hierarchy {
    /// The root alone.
    fn default() -> Self {
        let root = Domain { id: DomainId::ROOT, place: None };
        let mut graph = StableDiGraph::new();
        let node = graph.add_node(Node { domain: root, ancestry: [DomainId::ROOT].into() });
        Self { graph, nodes: BTreeMap::from([(DomainId::ROOT, node)]), names: BTreeMap::new() }
    }
}

impl Hierarchy {
    /// The tree of these domains, in whatever order they come.
    ///
    /// # Errors
    /// They are no tree with the root as its root; see [`TreeError`].
    pub fn from_domains(domains: impl IntoIterator<Item = Domain>) -> Result<Self, TreeError> {
        let mut waiting: BTreeMap<DomainId, Vec<Domain>> = BTreeMap::new();
        for domain in domains {
            match &domain.place {
                Some((parent, _)) => waiting.entry(*parent).or_default().push(domain),
                None if domain.id == DomainId::ROOT => {}
                None => return Err(TreeError::Root),
            }
        }
        let mut tree = Self::default();
        let mut parents = vec![DomainId::ROOT];
        while let Some(parent) = parents.pop() {
            for domain in waiting.remove(&parent).unwrap_or_default() {
                if tree.get(domain.id).is_some() {
                    return Err(TreeError::Cycle);
                }
                parents.push(domain.id);
                tree.put(domain)?;
            }
        }
        match waiting.into_keys().next() {
            Some(orphaned) => Err(TreeError::Unknown(orphaned)),
            None => Ok(tree),
        }
    }

    /// This tree with domains put and removed all at once: only what comes out must be a tree, not each step
    /// on the way, so that two domains may swap their names or a removed one may be named before what was
    /// below it.
    ///
    /// # Errors
    /// What comes out is no tree; see [`TreeError`].
    pub fn with(
        &self,
        changes: impl IntoIterator<Item = (DomainId, Option<Domain>)>,
    ) -> Result<Self, TreeError> {
        let changes: BTreeMap<_, _> = changes.into_iter().collect();
        if let Some(tree) = self.step_by_step(&changes) {
            return Ok(tree);
        }
        let mut domains: BTreeMap<_, _> = self.iter().map(|d| (d.id, d.clone())).collect();
        for (id, domain) in changes {
            match domain {
                Some(domain) => domains.insert(id, domain),
                None => domains.remove(&id),
            };
        }
        Self::from_domains(domains.into_values())
    }

    /// The same where each change is valid by itself, in the order of the ids, which is that of creation:
    /// parents are put before their subdomains, and removed after them.
    fn step_by_step(&self, changes: &BTreeMap<DomainId, Option<Domain>>) -> Option<Self> {
        let mut tree = self.clone();
        let put = |tree: &mut Self, domain: &Domain| tree.put(domain.clone()).ok();
        changes.values().flatten().try_for_each(|domain| put(&mut tree, domain))?;
        let removed =
            changes.iter().rev().filter(|(id, domain)| domain.is_none() && self.get(**id).is_some());
        removed.map(|(id, _)| *id).try_for_each(|id| tree.remove(id).ok())?;
        Some(tree)
    }

    /// Puts a domain where its `place` says: adds it, or moves or renames it with all that is below it.
    ///
    /// # Errors
    /// See [`TreeError`]; the tree is then as it was.
    pub fn put(&mut self, domain: Domain) -> Result<(), TreeError> {
        let Some((parent, name)) = &domain.place else {
            return if domain.id == DomainId::ROOT { Ok(()) } else { Err(TreeError::Root) };
        };
        if domain.id == DomainId::ROOT {
            return Err(TreeError::Root);
        }
        let parent_node = self.node(*parent)?;
        if self.names.get(&(*parent, name.clone())).is_some_and(|&taken| taken != domain.id) {
            return Err(TreeError::NameTaken);
        }
        if self.is_within(*parent, domain.id) {
            return Err(TreeError::Cycle);
        }
        let depth = self.depth(*parent) + 1 + self.height(domain.id);
        if depth > MAX_DEPTH {
            return Err(TreeError::TooDeep(depth));
        }
        self.unlink(domain.id);
        self.names.insert((*parent, name.clone()), domain.id);
        let (id, ancestry) = (domain.id, self.graph[parent_node].ancestry.clone());
        let node = match self.nodes.get(&id) {
            Some(&node) => {
                self.graph[node].domain = domain;
                node
            }
            None => {
                let node = self.graph.add_node(Node { domain, ancestry });
                self.nodes.insert(id, node);
                node
            }
        };
        self.graph.add_edge(parent_node, node, ());
        self.trace_below(id);
        Ok(())
    }

    /// Brings the ancestries of a domain and of all below it up to date.
    fn trace_below(&mut self, id: DomainId) {
        // Parents come before their subdomains.
        for id in self.subtree(id) {
            let parent = self.parent(id).and_then(|parent| self.ancestry(parent)).cloned();
            let ancestry = parent.iter().flat_map(|above| above.iter().copied()).chain([id]).collect();
            if let Some(&node) = self.nodes.get(&id) {
                self.graph[node].ancestry = ancestry;
            }
        }
    }

    /// Removes a domain that has no subdomains.
    ///
    /// # Errors
    /// It is unknown, the root, or has subdomains; the tree is then as it was.
    pub fn remove(&mut self, id: DomainId) -> Result<(), TreeError> {
        let node = self.node(id)?;
        if id == DomainId::ROOT {
            return Err(TreeError::Root);
        }
        if self.graph.neighbors(node).next().is_some() {
            return Err(TreeError::NotEmpty);
        }
        self.unlink(id);
        self.graph.remove_node(node);
        self.nodes.remove(&id);
        Ok(())
    }

    /// The domain with this id.
    pub fn get(&self, id: DomainId) -> Option<&Domain> {
        self.nodes.get(&id).map(|&node| &self.graph[node].domain)
    }

    /// All domains, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Domain> {
        self.nodes.values().map(|&node| &self.graph[node].domain)
    }

    /// How many domains there are, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: the root is always there.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The domain at this path.
    pub fn find(&self, path: &DomainPath) -> Option<DomainId> {
        let mut id = DomainId::ROOT;
        for step in path.steps() {
            id = *self.names.get(&(id, step.clone()))?;
        }
        Some(id)
    }

    /// The path of a domain; none where there is no such domain.
    pub fn path(&self, id: DomainId) -> Option<DomainPath> {
        self.get(id)?;
        let mut steps: Vec<_> =
            self.lineage(id).filter_map(|d| d.place.as_ref().map(|p| p.1.clone())).collect();
        steps.reverse();
        // The tree never lets a domain lie deeper than a path can say.
        DomainPath::from_steps(steps).ok()
    }

    /// The parent; none for the root and for what is not there.
    pub fn parent(&self, id: DomainId) -> Option<DomainId> {
        self.get(id)?.place.as_ref().map(|p| p.0)
    }

    /// The domain itself, its parent, and so on up to the root; nothing for what is not there.
    pub fn lineage(&self, id: DomainId) -> impl Iterator<Item = &Domain> {
        std::iter::successors(self.get(id), |d| d.place.as_ref().and_then(|p| self.get(p.0)))
    }

    /// The ids of the same, the other way round: the root first, the domain itself last; none for what is not
    /// there. Kept, so that asking costs next to nothing.
    pub fn ancestry(&self, id: DomainId) -> Option<&Arc<[DomainId]>> {
        self.nodes.get(&id).map(|&node| &self.graph[node].ancestry)
    }

    /// Levels below the root, which has 0.
    pub fn depth(&self, id: DomainId) -> usize {
        self.ancestry(id).map_or(0, |ancestry| ancestry.len().saturating_sub(1))
    }

    /// Whether `id` is `ancestor` or lies below it.
    pub fn is_within(&self, id: DomainId, ancestor: DomainId) -> bool {
        self.ancestry(id).is_some_and(|ancestry| ancestry.contains(&ancestor))
    }

    /// The subdomains of a domain, by name.
    pub fn children(&self, id: DomainId) -> impl Iterator<Item = (&DomainName, DomainId)> {
        self.children_from(id)
            .take_while(move |(parent, _, _)| *parent == id)
            .map(|(_, name, child)| (name, child))
    }

    /// The domain and all below it, each before its subdomains.
    pub fn subtree(&self, id: DomainId) -> Vec<DomainId> {
        let Some(&node) = self.nodes.get(&id) else { return Vec::new() };
        let mut dfs = Dfs::new(&self.graph, node);
        std::iter::from_fn(|| dfs.next(&self.graph)).map(|n| self.graph[n].domain.id).collect()
    }

    fn children_from(&self, id: DomainId) -> impl Iterator<Item = (DomainId, &DomainName, DomainId)> {
        let least: DomainName = "0".parse().expect("a digit is the least name there is");
        self.names.range((id, least)..).map(|((parent, name), child)| (*parent, name, *child))
    }

    fn height(&self, id: DomainId) -> usize {
        let below = self.subtree(id).into_iter().map(|d| self.depth(d)).max().unwrap_or(0);
        below.saturating_sub(self.depth(id))
    }

    fn node(&self, id: DomainId) -> Result<NodeIndex, TreeError> {
        self.nodes.get(&id).copied().ok_or(TreeError::Unknown(id))
    }

    /// Takes a domain off its parent, if it hangs on one.
    fn unlink(&mut self, id: DomainId) {
        let Some(&node) = self.nodes.get(&id) else { return };
        if let Some(place) = self.graph[node].domain.place.clone() {
            self.names.remove(&place);
        }
        let edges: Vec<_> = self
            .graph
            .edges_directed(node, Direction::Incoming)
            .map(|e| petgraph::visit::EdgeRef::id(&e))
            .collect();
        for edge in edges {
            self.graph.remove_edge(edge);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domain(id: u64, parent: u64, name: &str) -> Domain {
        Domain { id: DomainId(id), place: Some((DomainId(parent), name.parse().unwrap())) }
    }

    #[test]
    fn a_domain_moves_with_all_below_it_and_never_into_itself() {
        let mut tree = Hierarchy::default();
        for d in [domain(1, 0, "a"), domain(2, 1, "b"), domain(3, 2, "c"), domain(4, 0, "z")] {
            tree.put(d).unwrap();
        }
        assert_eq!(tree.put(domain(1, 3, "a")), Err(TreeError::Cycle));
        tree.put(domain(2, 4, "b2")).unwrap();
        assert_eq!(tree.path(DomainId(3)).unwrap().to_string(), "/z/b2/c");
        assert_eq!(tree.find(&"/a/b".parse().unwrap()), None);
        assert_eq!(tree.put(domain(5, 0, "z")), Err(TreeError::NameTaken));
        assert_eq!(tree.remove(DomainId(4)), Err(TreeError::NotEmpty));
        assert_eq!(tree.remove(DomainId::ROOT), Err(TreeError::Root));
        assert_eq!(tree.children(DomainId::ROOT).map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["a", "z"]);
    }

    proptest! {
            /// The tree against the simplest model there is: a map from child to parent.
            #[test]
            fn every_operation_leaves_a_tree_that_a_parent_map_agrees_with(
                ops in prop::collection::vec((1u64..8, 0u64..8, "[ab]", any::<bool>()), 1..40)
            ) {
                let mut tree = Hierarchy::default();
                let mut model: BTreeMap<u64, (u64, String)> = BTreeMap::new();
                for (id, parent, name, put) in ops {
    let up = |model: &BTreeMap<u64, (u64, String)>, mut at: u64| { let mut seen = vec![at]; while let Some((p, _)) = model.get(&at) { at = *p; seen.push(at); } seen };
                    if put {
                        let known = parent == 0 || model.contains_key(&parent);
                        let taken = model.iter().any(|(i, (p, n))| *i != id && *p == parent && *n == name);
                        let fits = known && !taken && !up(&model, parent).contains(&id);
                        prop_assert_eq!(tree.put(domain(id, parent, &name)).is_ok(), fits);
                        if fits { model.insert(id, (parent, name)); }
                    } else {
                        let fits = model.contains_key(&id) && !model.values().any(|(p, _)| *p == id);
                        prop_assert_eq!(tree.remove(DomainId(id)).is_ok(), fits);
                        if fits { model.remove(&id); }
                    }
                    prop_assert_eq!(tree.len(), model.len() + 1);
                    prop_assert_eq!(tree.subtree(DomainId::ROOT).len(), model.len() + 1);
                    for (id, (parent, _)) in &model {
                        prop_assert_eq!(tree.parent(DomainId(*id)), Some(DomainId(*parent)));
                        let mut ancestry = up(&model, *id);
                        ancestry.reverse();
                        let ancestry: Vec<_> = ancestry.into_iter().map(DomainId).collect();
                        prop_assert_eq!(&tree.ancestry(DomainId(*id)).unwrap()[..], &ancestry[..]);
                        let path = tree.path(DomainId(*id)).unwrap();
                        prop_assert_eq!(tree.find(&path), Some(DomainId(*id)));
                    }
                }
            }

            /// Changes that can be made one by one come out as those that have to be put together anew do.
            #[test]
            fn changes_all_at_once_give_the_tree_of_all_domains(
                sets in prop::collection::vec(
                    prop::collection::btree_map(1u64..7, prop::option::of((0u64..7, "[ab]")), 1..4), 1..8),
            ) {
                let mut tree = Hierarchy::default();
                for set in sets {
                    let changes: Vec<_> = set.into_iter().map(|(id, place)| {
                        (DomainId(id), place.map(|(parent, name)| domain(id, parent, &name)))
                    }).collect();
                    let mut all: BTreeMap<_, _> = tree.iter().map(|d| (d.id, d.clone())).collect();
                    for (id, domain) in changes.clone() {
                        match domain {
                            Some(domain) => all.insert(id, domain),
                            None => all.remove(&id),
                        };
                    }
                    let expected = Hierarchy::from_domains(all.into_values());
                    let found = tree.with(changes);
                    prop_assert_eq!(found.is_ok(), expected.is_ok());
                    let (Ok(found), Ok(expected)) = (found, expected) else { continue };
                    prop_assert!(found.iter().eq(expected.iter()));
                    for domain in expected.iter() {
                        prop_assert_eq!(found.ancestry(domain.id), expected.ancestry(domain.id));
                        prop_assert_eq!(found.find(&found.path(domain.id).unwrap()), Some(domain.id));
                    }
                    tree = found;
                }
            }
        }
}
