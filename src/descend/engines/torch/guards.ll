; LLVM functions that check guards: conditions on Python's objects, PyTorch's tensors among them, under which a step that
; was planned before may be made again. guards.py writes the guards and compiles this.
;
; The types and symbols are those of layout.py, as in stepping.ll. The kind of a guard says which object it is about:
;   0  the next object in the container that the last guard of kind 2 or 3 named; in a dict, under the key `Guard.name`
;   1  the attribute `Guard.name` of `Guard.holder`
;   2  a list, `Guard.object`, which must have `Guard.length` objects
;   3  a dict, `Guard.object`, likewise
; An object of kind 0 or 1 must be `Guard.object`, unless that is null. If `Guard.type` is not null, the object must be a
; tensor of that type, on the same device, with the same dtype, sizes and strides; and where its memory begins must be
; `Guard.address`, or is written to `Guard.target` if that is not null, unless some of its `Guard.bytes` are in memory that
; the step writes.

declare ptr @PyList_GetItem(ptr, i64)
declare i32 @PyList_SetItem(ptr, i64, ptr)
declare i64 @PyList_Size(ptr)
declare i32 @PyDict_Next(ptr, ptr, ptr, ptr)
declare i64 @PyDict_Size(ptr)
declare ptr @PyObject_GetAttr(ptr, ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyLong_AsVoidPtr(ptr)
declare ptr @PyLong_FromSsize_t(i64)

; check is a builtin function of Python's without arguments. It checks guards and, if all hold, steps their job, if there
; is one. Returns the place of the first guard that does not hold; or what `alone` of stepping.ll returns; or -1.
;
; Its self is the address of a GuardSet, as an int. Nothing else runs in the interpreter meanwhile, as this never gives
; back the interpreter's lock: what the guards saw is still true while the job is stepped.
define ptr @check(ptr %self, ptr %unused) {
entry:
  %set = call ptr @PyLong_AsVoidPtr(ptr %self)
  %unmet = call i64 @first_unmet(ptr %set)
  %failed = icmp eq i64 %unmet, -2
  br i1 %failed, label %raise, label %checked
raise:
  ret ptr null
checked:
  %hold = icmp slt i64 %unmet, 0
  %job.at = getelementptr %GuardSet, ptr %set, $GuardSet.job
  %job = load ptr, ptr %job.at
  %has.job = icmp ne ptr %job, null
  %steps = and i1 %hold, %has.job
  br i1 %steps, label %step, label %answer
step:
  %alone.at = getelementptr %GuardSet, ptr %set, $GuardSet.alone
  %alone = load ptr, ptr %alone.at
  %refused = call i64 %alone(ptr %job)
  br label %answer
answer:
  %result = phi i64 [ %unmet, %checked ], [ %refused, %step ]
  %number = call ptr @PyLong_FromSsize_t(i64 %result)
  ret ptr %number
}

; first_unmet returns the place of the first guard that does not hold; or -1 if all hold; or -2 with an exception set.
;
; It walks through lists and dicts as the guards do. If the set has a list `held`, each tensor whose address it writes to
; a target goes into that list, which keeps it alive until the step is made.
define internal i64 @first_unmet(ptr %set) {
entry:
  %dict.position = alloca i64
  %key.at = alloca ptr
  %value.at = alloca ptr
  %container.at = alloca ptr
  %is.list.at = alloca i1
  %list.position = alloca i64
  %held.position = alloca i64
  store i64 0, ptr %held.position
  %guards.at = getelementptr %GuardSet, ptr %set, $GuardSet.guards
  %guards = load ptr, ptr %guards.at
  %count.at = getelementptr %GuardSet, ptr %set, $GuardSet.guard_count
  %count = load i64, ptr %count.at
  %held.at = getelementptr %GuardSet, ptr %set, $GuardSet.held
  %held = load ptr, ptr %held.at
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %met ]
  %left = icmp slt i64 %i, %count
  br i1 %left, label %guarded, label %all
all:
  ret i64 -1
unmet:
  ret i64 %i
error:
  ret i64 -2
met:
  %i.next = add i64 %i, 1
  br label %next
guarded:
  %guard = getelementptr %Guard, ptr %guards, i64 %i
  %kind.at = getelementptr %Guard, ptr %guard, $Guard.kind
  %kind = load i64, ptr %kind.at
  %object.at = getelementptr %Guard, ptr %guard, $Guard.object
  %length.at = getelementptr %Guard, ptr %guard, $Guard.length
  %name.at = getelementptr %Guard, ptr %guard, $Guard.name
  switch i64 %kind, label %item [
    i64 1, label %attribute
    i64 2, label %list
    i64 3, label %dict
  ]
list:
  %list.object = load ptr, ptr %object.at
  %list.length = load i64, ptr %length.at
  %list.size = call i64 @PyList_Size(ptr %list.object)
  store ptr %list.object, ptr %container.at
  store i1 true, ptr %is.list.at
  store i64 0, ptr %list.position
  %list.same = icmp eq i64 %list.size, %list.length
  br i1 %list.same, label %met, label %unmet
dict:
  %dict.object = load ptr, ptr %object.at
  %dict.length = load i64, ptr %length.at
  %dict.size = call i64 @PyDict_Size(ptr %dict.object)
  store ptr %dict.object, ptr %container.at
  store i1 false, ptr %is.list.at
  store i64 0, ptr %dict.position
  %dict.same = icmp eq i64 %dict.size, %dict.length
  br i1 %dict.same, label %met, label %unmet
attribute:
  %holder.at = getelementptr %Guard, ptr %guard, $Guard.holder
  %holder = load ptr, ptr %holder.at
  %name = load ptr, ptr %name.at
  %owned = call ptr @PyObject_GetAttr(ptr %holder, ptr %name)
  %missing = icmp eq ptr %owned, null
  br i1 %missing, label %error, label %own
own:
  %own.met = call i64 @meets(ptr %set, ptr %guard, ptr %owned)
  %target.at = getelementptr %Guard, ptr %guard, $Guard.target
  %target = load ptr, ptr %target.at
  %has.target = icmp ne ptr %target, null
  %has.held = icmp ne ptr %held, null
  %keep = and i1 %has.target, %has.held
  br i1 %keep, label %hold, label %release
hold:
  %hold.position = load i64, ptr %held.position
  %hold.next = add i64 %hold.position, 1
  store i64 %hold.next, ptr %held.position
  %hold.failed = call i32 @PyList_SetItem(ptr %held, i64 %hold.position, ptr %owned)
  %hold.done = icmp eq i32 %hold.failed, 0
  br i1 %hold.done, label %held.met, label %error
held.met:
  br label %judged
release:
  call void @Py_DecRef(ptr %owned)
  br label %judged
item:
  %container = load ptr, ptr %container.at
  %is.list = load i1, ptr %is.list.at
  br i1 %is.list, label %list.item, label %dict.item
list.item:
  %position = load i64, ptr %list.position
  %position.next = add i64 %position, 1
  store i64 %position.next, ptr %list.position
  %element = call ptr @PyList_GetItem(ptr %container, i64 %position)
  %element.met = call i64 @meets(ptr %set, ptr %guard, ptr %element)
  br label %judged
dict.item:
  %more = call i32 @PyDict_Next(ptr %container, ptr %dict.position, ptr %key.at, ptr %value.at)
  %no.more = icmp eq i32 %more, 0
  br i1 %no.more, label %unmet, label %entry.found
entry.found:
  %key = load ptr, ptr %key.at
  %key.expected = load ptr, ptr %name.at
  %key.same = icmp eq ptr %key, %key.expected
  br i1 %key.same, label %entry.value, label %unmet
entry.value:
  %value = load ptr, ptr %value.at
  %value.met = call i64 @meets(ptr %set, ptr %guard, ptr %value)
  br label %judged
judged:
  %result = phi i64 [ %own.met, %held.met ], [ %own.met, %release ], [ %element.met, %list.item ],
    [ %value.met, %entry.value ]
  switch i64 %result, label %error [
    i64 0, label %unmet
    i64 1, label %met
  ]
}

; meets returns 1 if an object is as its guard says, 0 if it is not, and -2 with an exception set.
define internal i64 @meets(ptr %set, ptr %guard, ptr %object) {
entry:
  %view = alloca %DLTensor
  %expected.at = getelementptr %Guard, ptr %guard, $Guard.object
  %expected = load ptr, ptr %expected.at
  %any = icmp eq ptr %expected, null
  %same.object = icmp eq ptr %expected, %object
  %identified = or i1 %any, %same.object
  br i1 %identified, label %kind, label %no
no:
  ret i64 0
yes:
  ret i64 1
error:
  ret i64 -2
kind:
  %guard.type.at = getelementptr %Guard, ptr %guard, $Guard.type
  %guard.type = load ptr, ptr %guard.type.at
  %no.tensor = icmp eq ptr %guard.type, null
  br i1 %no.tensor, label %yes, label %tensor
tensor:
  %type.offset.at = getelementptr %GuardSet, ptr %set, $GuardSet.type_offset
  %type.offset = load i64, ptr %type.offset.at
  %type.at = getelementptr i8, ptr %object, i64 %type.offset
  %type = load ptr, ptr %type.at
  %same.type = icmp eq ptr %type, %guard.type
  br i1 %same.type, label %own.memory, label %no
own.memory:
  ; A tensor can have another's memory, and be its negative all the same: PyTorch negates it when it is used, and DLPack
  ; does not tell. Its dispatch keys do.
  %tensor_offset.at = getelementptr %GuardSet, ptr %set, $GuardSet.tensor_offset
  %tensor_offset = load i64, ptr %tensor_offset.at
  %tensor.at = getelementptr i8, ptr %object, i64 %tensor_offset
  %tensor.own = load ptr, ptr %tensor.at
  %keys_offset.at = getelementptr %GuardSet, ptr %set, $GuardSet.keys_offset
  %keys_offset = load i64, ptr %keys_offset.at
  %keys.at = getelementptr i8, ptr %tensor.own, i64 %keys_offset
  %keys.all = load i64, ptr %keys.at
  %keys_mask.at = getelementptr %GuardSet, ptr %set, $GuardSet.keys_mask
  %keys_mask = load i64, ptr %keys_mask.at
  %keys = and i64 %keys.all, %keys_mask
  %guard.keys.at = getelementptr %Guard, ptr %guard, $Guard.keys
  %guard.keys = load i64, ptr %guard.keys.at
  %same.keys = icmp eq i64 %keys, %guard.keys
  br i1 %same.keys, label %look, label %no
look:
  %view_tensor.at = getelementptr %GuardSet, ptr %set, $GuardSet.view_tensor
  %view_tensor = load ptr, ptr %view_tensor.at
  %failed = call i32 %view_tensor(ptr %object, ptr %view)
  %viewed = icmp eq i32 %failed, 0
  br i1 %viewed, label %compare, label %error
compare:
  %device.at = getelementptr %DLTensor, ptr %view, $DLTensor.device
  %device = load i64, ptr %device.at
  %guard.device.at = getelementptr %Guard, ptr %guard, $Guard.device
  %guard.device = load i64, ptr %guard.device.at
  %same.device = icmp eq i64 %device, %guard.device
  %dimensions.at = getelementptr %DLTensor, ptr %view, $DLTensor.dimensions
  %dimensions = load i64, ptr %dimensions.at
  %guard.dimensions.at = getelementptr %Guard, ptr %guard, $Guard.dimensions
  %guard.dimensions = load i64, ptr %guard.dimensions.at
  %same.dimensions = icmp eq i64 %dimensions, %guard.dimensions
  %alike = and i1 %same.device, %same.dimensions
  br i1 %alike, label %shape, label %no
shape:
  ; The number of dimensions is the lower half of that word, the dtype the upper.
  %dimensions32 = trunc i64 %dimensions to i32
  %rank = zext i32 %dimensions32 to i64
  %shape.at = getelementptr %DLTensor, ptr %view, $DLTensor.shape
  %sizes = load ptr, ptr %shape.at
  %strides.at = getelementptr %DLTensor, ptr %view, $DLTensor.strides
  %strides = load ptr, ptr %strides.at
  %guard.sizes.at = getelementptr %Guard, ptr %guard, $Guard.sizes
  %guard.sizes = load ptr, ptr %guard.sizes.at
  %guard.strides = getelementptr i64, ptr %guard.sizes, i64 %rank
  %has.strides = icmp ne ptr %strides, null
  %scalar = icmp eq i64 %rank, 0
  %legible = or i1 %has.strides, %scalar
  br i1 %legible, label %dimension, label %no
dimension:
  %d = phi i64 [ 0, %shape ], [ %d.next, %stride ]
  %d.left = icmp ult i64 %d, %rank
  br i1 %d.left, label %size, label %memory
size:
  %size.at = getelementptr i64, ptr %sizes, i64 %d
  %size.here = load i64, ptr %size.at
  %guard.size.at = getelementptr i64, ptr %guard.sizes, i64 %d
  %guard.size = load i64, ptr %guard.size.at
  %same.size = icmp eq i64 %size.here, %guard.size
  br i1 %same.size, label %stride, label %no
stride:
  ; Where there is one number in a dimension, its stride does not matter.
  %stride.at = getelementptr i64, ptr %strides, i64 %d
  %stride.here = load i64, ptr %stride.at
  %guard.stride.at = getelementptr i64, ptr %guard.strides, i64 %d
  %guard.stride = load i64, ptr %guard.stride.at
  %same.stride = icmp eq i64 %stride.here, %guard.stride
  %one = icmp eq i64 %size.here, 1
  %laid.out = or i1 %same.stride, %one
  %d.next = add i64 %d, 1
  br i1 %laid.out, label %dimension, label %no
memory:
  %data.at = getelementptr %DLTensor, ptr %view, $DLTensor.data
  %data = load ptr, ptr %data.at
  %byte_offset.at = getelementptr %DLTensor, ptr %view, $DLTensor.byte_offset
  %byte_offset = load i64, ptr %byte_offset.at
  %address = getelementptr i8, ptr %data, i64 %byte_offset
  %numel.at = getelementptr %Guard, ptr %guard, $Guard.numel
  %numel = load i64, ptr %numel.at
  %nowhere = icmp eq ptr %address, null
  %some = icmp ne i64 %numel, 0
  %lost = and i1 %nowhere, %some
  br i1 %lost, label %no, label %there
there:
  %target.at = getelementptr %Guard, ptr %guard, $Guard.target
  %target = load ptr, ptr %target.at
  %fixed = icmp eq ptr %target, null
  br i1 %fixed, label %stays, label %moves
stays:
  %guard.address.at = getelementptr %Guard, ptr %guard, $Guard.address
  %guard.address = load ptr, ptr %guard.address.at
  %unmoved = icmp eq ptr %address, %guard.address
  br i1 %unmoved, label %yes, label %no
moves:
  store ptr %address, ptr %target
  ; The first of the intervals that ends after the memory begins is found by halving: no other can meet it.
  %begin = ptrtoint ptr %address to i64
  %bytes.at = getelementptr %Guard, ptr %guard, $Guard.bytes
  %bytes = load i64, ptr %bytes.at
  %end = add i64 %begin, %bytes
  %starts.at = getelementptr %GuardSet, ptr %set, $GuardSet.starts
  %starts = load ptr, ptr %starts.at
  %ends.at = getelementptr %GuardSet, ptr %set, $GuardSet.ends
  %ends = load ptr, ptr %ends.at
  %interval_count.at = getelementptr %GuardSet, ptr %set, $GuardSet.interval_count
  %interval_count = load i64, ptr %interval_count.at
  br label %halve
halve:
  %low = phi i64 [ 0, %moves ], [ %low.next, %middle ]
  %high = phi i64 [ %interval_count, %moves ], [ %high.next, %middle ]
  %searching = icmp ult i64 %low, %high
  br i1 %searching, label %middle, label %found
middle:
  %sum = add i64 %low, %high
  %mid = lshr i64 %sum, 1
  %mid.end.at = getelementptr i64, ptr %ends, i64 %mid
  %mid.end = load i64, ptr %mid.end.at
  %before = icmp ule i64 %mid.end, %begin
  %mid.next = add i64 %mid, 1
  %low.next = select i1 %before, i64 %mid.next, i64 %low
  %high.next = select i1 %before, i64 %high, i64 %mid
  br label %halve
found:
  %beyond = icmp eq i64 %low, %interval_count
  %free = icmp eq i64 %bytes, 0
  %apart = or i1 %beyond, %free
  br i1 %apart, label %yes, label %near
near:
  %start.at = getelementptr i64, ptr %starts, i64 %low
  %start = load i64, ptr %start.at
  %clear = icmp uge i64 %start, %end
  br i1 %clear, label %yes, label %no
}
