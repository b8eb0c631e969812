//! A pickle machine for state dicts: Python's opcodes of protocols 2 to 5 (PEP 307, 3154, 574; CPython's
//! `pickletools`) without those that import or call anything. In: a cursor at a pickle. Out: its values, the cursor
//! behind it. Each operation makes at most one value and borrows text from the file, so that memory is bounded by a
//! constant times the pickle's length, and by `MAX_OPERATIONS`.

use std::collections::HashMap;

use super::cursor::Cursor;
use super::fault::{Fault, Flaw, Result};
use super::value::{self, Id, Value};

/// Most operations of one pickle. A detector's state dict takes some 20 000; with this bound the machine stays below
/// some 200 MB whatever a pickle of a megabyte or more does (tensors that name one shape of 16 sides again and again).
pub(super) const MAX_OPERATIONS: usize = 1 << 20;

/// A pickle that has been read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle; `limit` is the most bytes that a tensor of it may have.
    pub(super) fn read(cursor: &mut Cursor<'a>, limit: u64) -> Result<Self> {
        let mut machine = Machine {
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copies: 0,
            limit,
            at: 0,
        };
        for _ in 0..MAX_OPERATIONS {
            machine.at = cursor.at();
            let opcode = cursor.u8("a pickle's next operation")?;
            if opcode == b'.' {
                let root = machine.pop()?;
                return Ok(Self { values: machine.values, root });
            }
            machine.step(opcode, cursor)?;
        }
        Err(cursor.flaw(Fault::TooLong(MAX_OPERATIONS)))
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    pub(super) fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// The value of a text key of a dictionary.
    pub(super) fn entry(&self, dict: &[(Id, Id)], key: &str) -> Option<Id> {
        let is_it = |&&(id, _): &&(Id, Id)| matches!(self.get(id), Value::Text(text) if *text == key);
        dict.iter().rev().find(is_it).map(|&(_, value)| value)
    }
}

/// The machine's state.
pub(super) struct Machine<'a> {
    /// Every value made so far. Ids come from here alone, so that each is in range.
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Entries that calls have copied from one value to another.
    copies: usize,
    /// Most bytes of one tensor.
    pub(super) limit: u64,
    /// The present operation's offset in the file.
    pub(super) at: u64,
}

impl<'a> Machine<'a> {
    pub(super) fn flaw(&self, what: &'static str) -> Flaw {
        Flaw::new(self.at, Fault::Pickle(what))
    }

    pub(super) fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    pub(super) fn push(&mut self, value: Value<'a>) {
        // One value an operation: far fewer than 2^32.
        self.stack.push(Id(self.values.len() as u32));
        self.values.push(value);
    }

    pub(super) fn push_id(&mut self, id: Id) {
        self.stack.push(id);
    }

    /// The one operation whose work is not bounded by its operands on the stack is bounded here.
    pub(super) fn count_copies(&mut self, entries: usize) -> Result<()> {
        self.copies += entries;
        if self.copies > MAX_OPERATIONS {
            return Err(Flaw::new(self.at, Fault::TooLong(MAX_OPERATIONS)));
        }
        Ok(())
    }

    /// What is on top, not below the last mark.
    pub(super) fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.flaw("an operand is missing on the stack"));
        }
        self.stack.pop().ok_or_else(|| self.flaw("an operand is missing on the stack"))
    }

    fn top(&mut self) -> Result<Id> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    /// Everything above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let floor = self.marks.pop().ok_or_else(|| self.flaw("no mark on the stack"))?;
        Ok(self.stack.split_off(floor))
    }

    fn pop_tuple(&mut self, length: usize) -> Result<()> {
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn pairs(&self, items: &[Id]) -> Result<Vec<(Id, Id)>> {
        if !items.len().is_multiple_of(2) {
            return Err(self.flaw("a key without a value"));
        }
        Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    fn append(&mut self, items: &[Id]) -> Result<()> {
        let onto = self.top()?;
        match &mut self.values[onto.0 as usize] {
            Value::List(list) => list.extend_from_slice(items),
            Value::Opaque => {}
            _ => return Err(self.flaw("an item for something that is no list")),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> Result<()> {
        let pairs = self.pairs(items)?;
        let into = self.top()?;
        match &mut self.values[into.0 as usize] {
            Value::Dict(dict) => dict.extend(pairs),
            Value::Opaque => {}
            _ => return Err(self.flaw("an entry for something that is no dictionary")),
        }
        Ok(())
    }

    fn memoise(&mut self, key: u32) -> Result<()> {
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        let id = *self.memo.get(&key).ok_or_else(|| self.flaw("a value is recalled that was never kept"))?;
        self.stack.push(id);
        Ok(())
    }

    fn text(&mut self, length: u64, cursor: &mut Cursor<'a>) -> Result<()> {
        let bytes = cursor.take(length, "a text")?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.flaw("a text is no UTF-8"))?;
        self.push(Value::Text(text));
        Ok(())
    }

    /// Python 2's strings are bytes that are text mostly.
    fn old_string(&mut self, length: u64, cursor: &mut Cursor<'a>) -> Result<()> {
        let bytes = cursor.take(length, "a string")?;
        self.push(std::str::from_utf8(bytes).map_or(Value::Opaque, Value::Text));
        Ok(())
    }

    fn opaque(&mut self, length: u64, cursor: &mut Cursor<'a>) -> Result<()> {
        cursor.take(length, "bytes")?;
        self.push(Value::Opaque);
        Ok(())
    }

    fn long(&mut self, length: u64, cursor: &mut Cursor<'a>) -> Result<()> {
        let bytes = cursor.take(length, "a long integer")?;
        if bytes.len() > 8 {
            self.push(Value::Long(bytes));
            return Ok(());
        }
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let Some(found) = value::global(module, name) else {
            let fault = Fault::Global { module: shown(module), name: shown(name) };
            return Err(Flaw::new(self.at, fault));
        };
        self.push(Value::Global(found));
        Ok(())
    }

    /// Any operation but STOP.
    fn step(&mut self, opcode: u8, cursor: &mut Cursor<'a>) -> Result<()> {
        match opcode {
            // PROTO, FRAME: nothing to do, the frame's length is not needed.
            0x80 => match cursor.u8("a pickle's protocol")? {
                2..=5 => Ok(()),
                _ => Err(self.flaw("a protocol other than 2 to 5")),
            },
            0x95 => cursor.u64("a frame's length").map(drop),
            b'N' => self.done(Value::None),
            0x88 => self.done(Value::Bool(true)),
            0x89 => self.done(Value::Bool(false)),
            // BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT.
            b'J' => {
                let number = i32::from_le_bytes(cursor.array("an integer")?);
                self.done(Value::Int(number.into()))
            }
            b'K' => {
                let number = cursor.u8("an integer")?;
                self.done(Value::Int(number.into()))
            }
            b'M' => {
                let number = cursor.u16("an integer")?;
                self.done(Value::Int(number.into()))
            }
            0x8a => {
                let length = cursor.u8("a long integer's length")?;
                self.long(length.into(), cursor)
            }
            0x8b => {
                let length = cursor.u32("a long integer's length")?;
                self.long(length.into(), cursor)
            }
            b'G' => self.opaque(8, cursor),
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => self.sized(opcode, cursor),
            b'c' => {
                let (module, name) = (cursor.line("a module's name")?, cursor.line("a name")?);
                self.global(module, name)
            }
            // PUT and GET in their sizes, MEMOIZE.
            b'q' => {
                let key = cursor.u8("a memo key")?;
                self.memoise(key.into())
            }
            b'r' => {
                let key = cursor.u32("a memo key")?;
                self.memoise(key)
            }
            0x94 => self.memoise(self.memo.len() as u32),
            b'h' => {
                let key = cursor.u8("a memo key")?;
                self.recall(key.into())
            }
            b'j' => {
                let key = cursor.u32("a memo key")?;
                self.recall(key)
            }
            _ => self.combine(opcode),
        }
    }

    fn done(&mut self, value: Value<'a>) -> Result<()> {
        self.push(value);
        Ok(())
    }

    /// Texts and bytes with their length in front.
    fn sized(&mut self, opcode: u8, cursor: &mut Cursor<'a>) -> Result<()> {
        let what = "a length";
        let length = match opcode {
            0x8c | b'U' | b'C' => cursor.u8(what)?.into(),
            b'X' | b'T' | b'B' => cursor.u32(what)?.into(),
            _ => cursor.u64(what)?,
        };
        match opcode {
            b'X' | 0x8c | 0x8d => self.text(length, cursor),
            b'T' | b'U' => self.old_string(length, cursor),
            _ => self.opaque(length, cursor),
        }
    }

    /// Operations that have no bytes of their own.
    fn combine(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.push_id(top);
                Ok(())
            }
            b')' => self.done(Value::Tuple(Vec::new())),
            0x85..=0x87 => self.pop_tuple(usize::from(opcode - 0x84)),
            b't' => {
                let items = self.pop_mark()?;
                self.done(Value::Tuple(items))
            }
            b']' => self.done(Value::List(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                self.done(Value::List(items))
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(&items)
            }
            b'}' => self.done(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_mark()?;
                let pairs = self.pairs(&items)?;
                self.done(Value::Dict(pairs))
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[key, value])
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.insert(&items)
            }
            // Sets: EMPTY_SET, ADDITEMS, FROZENSET.
            0x8f => self.done(Value::Opaque),
            0x90 => {
                let items = self.pop_mark()?;
                self.append(&items)
            }
            0x91 => {
                self.pop_mark()?;
                self.done(Value::Opaque)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.value(module), self.value(name)) {
                    (&Value::Text(module), &Value::Text(name)) => self.global(module, name),
                    _ => Err(self.flaw("a name that is no text")),
                }
            }
            b'Q' => self.persistent(),
            b'R' => self.reduce(),
            0x81 => self.new_object(),
            b'b' => self.build(),
            _ => Err(Flaw::new(self.at, Fault::Opcode(opcode))),
        }
    }
}

/// The first letters of a name, for a message.
fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_default).collect()
}
