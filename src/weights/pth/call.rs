//! What the allowed names do when a pickle "calls" them: a storage, a view of it, a dictionary; for everything else a
//! value that is not read. In: operands on the machine's stack. Out: one value, its numbers checked.

use super::fault::{Fault, Flaw, Result};
use super::pickle::Machine;
use super::value::{Global, Id, Storage, Value, View};

/// Weights have at most 5 dimensions; the bound keeps a shape that is named again and again small.
const MAX_DIMENSIONS: usize = 16;

impl<'a> Machine<'a> {
    fn tuple(&self, id: Id) -> Result<&[Id]> {
        match self.value(id) {
            Value::Tuple(items) => Ok(items),
            _ => Err(self.flaw("arguments that are no tuple")),
        }
    }

    fn integer(&self, id: Id) -> Result<i64> {
        match self.value(id) {
            Value::Int(number) => Ok(*number),
            _ => Err(self.flaw("an integer is missing")),
        }
    }

    /// Shapes and strides: tuples, `torch.Size` or lists of integers.
    fn integers(&self, id: Id) -> Result<Vec<i64>> {
        match self.value(id) {
            Value::Tuple(items) | Value::List(items) if items.len() <= MAX_DIMENSIONS => {
                items.iter().map(|&item| self.integer(item)).collect()
            }
            _ => Err(self.flaw("a shape or strides that are no tuple of at most 16 integers")),
        }
    }

    /// BINPERSID: `('storage', class, key, location, elements[, view])`, a view being `(key, start, elements)` or None.
    pub(super) fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let fields = self.tuple(id)?;
        let [what, class, key, _location, whole, view @ ..] = fields else {
            return Err(self.flaw("a persistent id of fewer than five parts"));
        };
        let (Value::Text("storage"), Value::Global(Global::Storage(kind)), &Value::Text(key)) =
            (self.value(*what), self.value(*class), self.value(*key))
        else {
            return Err(self.flaw("a persistent id that is no storage (saved as a whole module?)"));
        };
        let (kind, whole) = (*kind, self.integer(*whole)?);
        let (start, length) = match view.first().map(|&id| self.value(id)) {
            None | Some(Value::None) => (0, whole),
            Some(Value::Tuple(parts)) if parts.len() == 3 => (self.integer(parts[1])?, self.integer(parts[2])?),
            Some(_) => return Err(self.flaw("a view of a storage that is no tuple of three")),
        };
        let inside = start >= 0 && length >= 0 && start.checked_add(length).is_some_and(|end| end <= whole);
        // `kind` has at most 8 bytes an element.
        if !inside || whole > i64::MAX / 8 {
            let reason = format!("{length} elements from {start} of {whole} are impossible");
            return Err(Flaw::new(self.at, Fault::Storage { key: key.chars().take(80).collect(), reason }));
        }
        self.push(Value::Storage(Box::new(Storage { key, kind, whole, start, length, at: self.at })));
        Ok(())
    }

    /// REDUCE: a name "called" with a tuple.
    pub(super) fn reduce(&mut self) -> Result<()> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Global(callee) = *self.value(callee) else {
            return Err(self.flaw("a call of something that is no name"));
        };
        let arguments = self.tuple(arguments)?;
        match (callee, arguments) {
            (Global::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Global::OrderedDict, &[items]) => {
                let pairs = self.listed_pairs(items)?;
                self.count_copies(pairs.len())?;
                self.push(Value::Dict(pairs));
            }
            (Global::RebuildTensor, &[storage, offset, size, stride, ..]) => {
                let view = self.view(storage, offset, size, stride)?;
                self.push(Value::Tensor(Box::new(view)));
            }
            (Global::RebuildParameter, &[tensor, ..]) if matches!(self.value(tensor), Value::Tensor(_)) => {
                self.push_id(tensor);
            }
            (Global::Size, &[sides]) => self.push_id(sides),
            (Global::Size, []) => self.push(Value::Tuple(Vec::new())),
            (Global::PassedOver, _) => self.push(Value::Opaque),
            _ => return Err(self.flaw("a call with the wrong arguments")),
        }
        Ok(())
    }

    /// `OrderedDict([[key, value], …])`, as Python 2 wrote it.
    fn listed_pairs(&self, items: Id) -> Result<Vec<(Id, Id)>> {
        let Value::List(items) = self.value(items) else {
            return Err(self.flaw("an OrderedDict of something that is no list"));
        };
        let pair = |&item: &Id| match self.value(item) {
            Value::Tuple(pair) | Value::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => Err(self.flaw("an OrderedDict's item that is no pair")),
        };
        items.iter().map(pair).collect()
    }

    /// NEWOBJ: only of what is passed over, and of an empty dictionary.
    pub(super) fn new_object(&mut self) -> Result<()> {
        let (arguments, class) = (self.pop()?, self.pop()?);
        let empty = self.tuple(arguments)?.is_empty();
        match self.value(class) {
            Value::Global(Global::OrderedDict) if empty => self.push(Value::Dict(Vec::new())),
            Value::Global(Global::PassedOver) => self.push(Value::Opaque),
            _ => return Err(self.flaw("an object of something that is no class of plain data")),
        }
        Ok(())
    }

    /// BUILD: attributes of a dictionary (a state dict's `_metadata`) or of what is passed over. They are dropped.
    pub(super) fn build(&mut self) -> Result<()> {
        self.pop()?;
        let onto = self.pop()?;
        if !matches!(self.value(onto), Value::Dict(_) | Value::Opaque) {
            return Err(self.flaw("attributes for something that has none"));
        }
        self.push_id(onto);
        Ok(())
    }

    fn view(&self, storage: Id, offset: Id, size: Id, stride: Id) -> Result<View<'a>> {
        let Value::Storage(storage) = self.value(storage) else {
            return Err(self.flaw("a tensor without a storage"));
        };
        let (size, stride) = (self.integers(size)?, self.integers(stride)?);
        let offset = self.integer(offset)?;
        if let Err(reason) = fits(storage, offset, &size, &stride, self.limit) {
            return Err(Flaw::new(self.at, Fault::View { size, stride, offset, reason }));
        }
        // No overflow: both are within the whole storage.
        let offset = storage.start + offset;
        Ok(View { storage: (**storage).clone(), offset, size, stride, at: self.at })
    }
}

/// Whether every element of a view is in its storage, and whether the view, laid out densely, has at most `limit`
/// bytes: a stride of 0 would spread a few bytes over any number of them.
fn fits(storage: &Storage, offset: i64, size: &[i64], stride: &[i64], limit: u64) -> std::result::Result<(), String> {
    if size.len() != stride.len() {
        return Err("as many strides as dimensions are needed".to_owned());
    }
    if offset < 0 || size.iter().chain(stride).any(|&number| number < 0) {
        return Err("a number is negative".to_owned());
    }
    // Without the empty dimensions, whose product libtorch takes in some places too.
    let spread = size.iter().filter(|&&side| side > 0).try_fold(1i64, |product, &side| product.checked_mul(side));
    let bytes = spread.and_then(|elements| elements.checked_mul(storage.kind.elt_size_in_bytes() as i64));
    if bytes.is_none_or(|bytes| bytes as u64 > limit) {
        return Err(format!("it has more bytes than the whole file, {limit}"));
    }
    let steps = size.iter().zip(stride).filter(|&(&side, _)| side > 0);
    let last =
        steps.into_iter().try_fold(offset, |last, (&side, &step)| last.checked_add((side - 1).checked_mul(step)?));
    let end = if size.contains(&0) { Some(offset) } else { last.and_then(|last| last.checked_add(1)) };
    match (last, end) {
        (Some(_), Some(end)) if end <= storage.length => Ok(()),
        _ => Err(format!("it reaches beyond the storage's {} elements", storage.length)),
    }
}
