; LLVM functions that step a job, in one thread or in many. runtime.py compiles them.
;
; The types (%Job, %Part, %Mailbox, %OpenMP, %Counter) are declared in layout.py. `$Job.parts` and the like stand for the
; indices of a field, which runtime.py fills in, so that no number here says where a field lies. Two more names stand for
; instructions: `$flush` lets the processor replace subnormal numbers by zero, `$restore` undoes that.
;
; Functions that step a job return -1; or, if a counter is not what the job expects, the place of that counter, and then
; nothing has been changed.

declare i32 @sched_yield()
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)

; advance checks a job's counters, makes every part's first chunk its next one, and advances the counters.
;
; A counter is a float, or if it is wide a double. A float that counts is not let past 2^24, the last whole number up to
; which it holds every other one: the job is refused then. A counter is read once. All are compared before any is written: a refused job must leave everything as it was.
define i64 @advance(ptr %job) {
entry:
  %counters.at = getelementptr %Job, ptr %job, $Job.counters
  %counters = load ptr, ptr %counters.at
  %counter_count.at = getelementptr %Job, ptr %job, $Job.counter_count
  %counter_count = load i64, ptr %counter_count.at
  %parts.at = getelementptr %Job, ptr %job, $Job.parts
  %parts = load ptr, ptr %parts.at
  %part_count.at = getelementptr %Job, ptr %job, $Job.part_count
  %part_count = load i64, ptr %part_count.at
  br label %compare.next
compare.next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %compare.wide ], [ %i.next, %compare.narrow ]
  %i.next = add i64 %i, 1
  %i.left = icmp slt i64 %i, %counter_count
  br i1 %i.left, label %compare, label %reset.next
compare:
  %i.counter = getelementptr %Counter, ptr %counters, i64 %i
  %i.address.at = getelementptr %Counter, ptr %i.counter, $Counter.address
  %i.address = load ptr, ptr %i.address.at
  %i.wide.at = getelementptr %Counter, ptr %i.counter, $Counter.wide
  %i.wide = load i64, ptr %i.wide.at
  %i.now.at = getelementptr %Counter, ptr %i.counter, $Counter.now
  %i.now = load double, ptr %i.now.at
  %i.is_wide = icmp ne i64 %i.wide, 0
  br i1 %i.is_wide, label %compare.wide, label %compare.narrow
compare.wide:
  %i.value = load double, ptr %i.address
  %i.same = fcmp oeq double %i.value, %i.now
  br i1 %i.same, label %compare.next, label %refuse
compare.narrow:
  %i.short = load float, ptr %i.address
  %i.long = fpext float %i.short to double
  %i.equal = fcmp oeq double %i.long, %i.now
  %i.growth.at = getelementptr %Counter, ptr %i.counter, $Counter.growth
  %i.growth = load double, ptr %i.growth.at
  %i.counts = fcmp one double %i.growth, 0.0
  %i.is_last = fcmp oge double %i.long, 0x4170000000000000
  %i.is_full = and i1 %i.counts, %i.is_last
  %i.has_room = xor i1 %i.is_full, true
  %i.fits = and i1 %i.equal, %i.has_room
  br i1 %i.fits, label %compare.next, label %refuse
refuse:
  ret i64 %i
reset.next:
  %k = phi i64 [ 0, %compare.next ], [ %k.next, %reset ]
  %k.left = icmp slt i64 %k, %part_count
  br i1 %k.left, label %reset, label %write.next
reset:
  %k.part = getelementptr %Part, ptr %parts, i64 %k
  %k.first.at = getelementptr %Part, ptr %k.part, $Part.first_chunk
  %k.first = load i64, ptr %k.first.at
  %k.claim.at = getelementptr %Part, ptr %k.part, $Part.next_chunk
  store i64 %k.first, ptr %k.claim.at
  %k.next = add i64 %k, 1
  br label %reset.next
write.next:
  %j = phi i64 [ 0, %reset.next ], [ %j.next, %write.rest ]
  %j.left = icmp slt i64 %j, %counter_count
  br i1 %j.left, label %write, label %accept
write:
  %j.counter = getelementptr %Counter, ptr %counters, i64 %j
  %j.address.at = getelementptr %Counter, ptr %j.counter, $Counter.address
  %j.address = load ptr, ptr %j.address.at
  %j.next.at = getelementptr %Counter, ptr %j.counter, $Counter.next
  %j.exact = load double, ptr %j.next.at
  %j.wide.at = getelementptr %Counter, ptr %j.counter, $Counter.wide
  %j.wide = load i64, ptr %j.wide.at
  %j.is_wide = icmp ne i64 %j.wide, 0
  br i1 %j.is_wide, label %write.wide, label %write.narrow
write.wide:
  store double %j.exact, ptr %j.address
  br label %write.rest
write.narrow:
  %j.short = fptrunc double %j.exact to float
  store float %j.short, ptr %j.address
  %j.rounded = fpext float %j.short to double
  br label %write.rest
write.rest:
  %j.after = phi double [ %j.exact, %write.wide ], [ %j.rounded, %write.narrow ]
  %j.now.at = getelementptr %Counter, ptr %j.counter, $Counter.now
  store double %j.after, ptr %j.now.at
  %j.growth.at = getelementptr %Counter, ptr %j.counter, $Counter.growth
  %j.growth = load double, ptr %j.growth.at
  %j.later = fadd double %j.after, %j.growth
  store double %j.later, ptr %j.next.at
  %j.next = add i64 %j, 1
  br label %write.next
accept:
  ret i64 -1
}

; work runs a job's kernel in this thread, on the part whose number is given and then on what is left of the other parts.
;
; The kernel claims a part's chunks one by one, so a thread that comes late finds fewer of them left. A thread prefers its
; own part because a processor prefetches memory that is read from one end to the other.
; Subnormal numbers are flushed to zero meanwhile. Arithmetic on them takes a hundred times as long as on others, and an
; average that decays, as of a gradient that stays zero, remains among them for ever.
define void @work(ptr %job, i64 %own) {
entry:
  %kernel.at = getelementptr %Job, ptr %job, $Job.kernel
  %kernel = load ptr, ptr %kernel.at
  %spans.at = getelementptr %Job, ptr %job, $Job.spans
  %spans = load ptr, ptr %spans.at
  %rows.at = getelementptr %Job, ptr %job, $Job.rows
  %rows = load ptr, ptr %rows.at
  %parts.at = getelementptr %Job, ptr %job, $Job.parts
  %parts = load ptr, ptr %parts.at
  %part_count.at = getelementptr %Job, ptr %job, $Job.part_count
  %part_count = load i64, ptr %part_count.at
  $flush
  br label %next
next:
  %k = phi i64 [ 0, %entry ], [ %k.next, %done ]
  %k.left = icmp slt i64 %k, %part_count
  br i1 %k.left, label %look, label %end
look:
  %turn = add i64 %own, %k
  %which = urem i64 %turn, %part_count
  %part = getelementptr %Part, ptr %parts, i64 %which
  %claim.at = getelementptr %Part, ptr %part, $Part.next_chunk
  %claim = load atomic i64, ptr %claim.at monotonic, align 8
  %stop.at = getelementptr %Part, ptr %part, $Part.stop_chunk
  %stop = load i64, ptr %stop.at
  %chunks.left = icmp slt i64 %claim, %stop
  br i1 %chunks.left, label %run, label %done
run:
  call void %kernel(ptr %spans, ptr %rows, ptr %part)
  br label %done
done:
  %k.next = add i64 %k, 1
  br label %next
end:
  $restore
  ret void
}

; alone steps a job in this thread.
define i64 @alone(ptr %job) {
  %refused = call i64 @advance(ptr %job)
  %accepted = icmp slt i64 %refused, 0
  br i1 %accepted, label %go, label %end
go:
  call void @work(ptr %job, i64 0)
  br label %end
end:
  ret i64 %refused
}

; worker is what each thread of a WorkerPool runs, for ever: it sleeps until its mailbox offers a job, and works on it.
;
; The mailbox's state (0 idle, 1 offered, 2 at work) is read and written under its mutex alone.
define ptr @worker(ptr %mailbox) {
entry:
  %mutex = getelementptr %Mailbox, ptr %mailbox, $Mailbox.mutex
  %offer = getelementptr %Mailbox, ptr %mailbox, $Mailbox.offer
  %state.at = getelementptr %Mailbox, ptr %mailbox, $Mailbox.state
  %job.at = getelementptr %Mailbox, ptr %mailbox, $Mailbox.job
  %part.at = getelementptr %Mailbox, ptr %mailbox, $Mailbox.part
  call i32 @pthread_mutex_lock(ptr %mutex)
  br label %look
look:
  %state = load i64, ptr %state.at
  %offered = icmp eq i64 %state, 1
  br i1 %offered, label %take, label %sleep
sleep:
  call i32 @pthread_cond_wait(ptr %offer, ptr %mutex)
  br label %look
take:
  store i64 2, ptr %state.at
  %job = load ptr, ptr %job.at
  %part = load i64, ptr %part.at
  call i32 @pthread_mutex_unlock(ptr %mutex)
  call void @work(ptr %job, i64 %part)
  call i32 @pthread_mutex_lock(ptr %mutex)
  store i64 0, ptr %state.at
  br label %look
}

; with_workers steps a job in this thread and in the workers that have these mailboxes.
;
; It waits for the workers that have begun, and withdraws the job from those that have not: one that wakes late, or that
; died, holds nobody up. A worker that has begun has at most a chunk left, a few microseconds, which is less than it takes
; to sleep and be woken; so the wait is a loop, which leaves the core to the worker if that needs it.
define i64 @with_workers(ptr %job, ptr %mailboxes, i64 %workers) {
entry:
  %refused = call i64 @advance(ptr %job)
  %accepted = icmp slt i64 %refused, 0
  br i1 %accepted, label %offer.next, label %end
offer.next:
  %k = phi i64 [ 0, %entry ], [ %k.next, %offer ]
  %k.left = icmp slt i64 %k, %workers
  br i1 %k.left, label %offer, label %own
offer:
  %k.mailbox = getelementptr %Mailbox, ptr %mailboxes, i64 %k
  %k.mutex = getelementptr %Mailbox, ptr %k.mailbox, $Mailbox.mutex
  %k.offer = getelementptr %Mailbox, ptr %k.mailbox, $Mailbox.offer
  %k.state.at = getelementptr %Mailbox, ptr %k.mailbox, $Mailbox.state
  %k.job.at = getelementptr %Mailbox, ptr %k.mailbox, $Mailbox.job
  call i32 @pthread_mutex_lock(ptr %k.mutex)
  store ptr %job, ptr %k.job.at
  store i64 1, ptr %k.state.at
  call i32 @pthread_mutex_unlock(ptr %k.mutex)
  call i32 @pthread_cond_signal(ptr %k.offer)
  %k.next = add i64 %k, 1
  br label %offer.next
own:
  call void @work(ptr %job, i64 0)
  br label %collect.next
collect.next:
  %j = phi i64 [ 0, %own ], [ %j.next, %collected ]
  %j.next = add i64 %j, 1
  %j.left = icmp slt i64 %j, %workers
  br i1 %j.left, label %collect, label %end
collect:
  %j.mailbox = getelementptr %Mailbox, ptr %mailboxes, i64 %j
  %j.mutex = getelementptr %Mailbox, ptr %j.mailbox, $Mailbox.mutex
  %j.state.at = getelementptr %Mailbox, ptr %j.mailbox, $Mailbox.state
  br label %look
look:
  call i32 @pthread_mutex_lock(ptr %j.mutex)
  %j.state = load i64, ptr %j.state.at
  %j.unbegun = icmp eq i64 %j.state, 1
  %j.left.state = select i1 %j.unbegun, i64 0, i64 %j.state
  store i64 %j.left.state, ptr %j.state.at
  call i32 @pthread_mutex_unlock(ptr %j.mutex)
  %j.idle = icmp eq i64 %j.left.state, 0
  br i1 %j.idle, label %collected, label %wait
wait:
  call i32 @sched_yield()
  br label %look
collected:
  br label %collect.next
end:
  ret i64 %refused
}

; with_openmp steps a job in the threads of OpenMP, of which this one is the first, and returns when all have been there.
define i64 @with_openmp(ptr %job, ptr %openmp, i64 %threads) {
  %refused = call i64 @advance(ptr %job)
  %accepted = icmp slt i64 %refused, 0
  br i1 %accepted, label %go, label %end
go:
  %job.at = getelementptr %OpenMP, ptr %openmp, $OpenMP.job
  store ptr %job, ptr %job.at
  %timely.at = getelementptr %OpenMP, ptr %openmp, $OpenMP.timely
  store i64 0, ptr %timely.at
  %parallel.at = getelementptr %OpenMP, ptr %openmp, $OpenMP.parallel
  %parallel = load ptr, ptr %parallel.at
  %threads32 = trunc i64 %threads to i32
  call void %parallel(ptr @openmp_thread, ptr %openmp, i32 %threads32, i32 0)
  br label %end
end:
  ret i64 %refused
}

; openmp_thread is what each of OpenMP's threads does with a job: its own part, then what is left of the others.
;
; There may be more threads than parts, and then the rest do nothing. To ask OpenMP for fewer threads than PyTorch does
; would end the others. A thread was timely if nobody has begun its part; the first thread, which calls the others, does
; not count.
define void @openmp_thread(ptr %openmp) {
entry:
  %thread_number.at = getelementptr %OpenMP, ptr %openmp, $OpenMP.thread_number
  %thread_number = load ptr, ptr %thread_number.at
  %own32 = call i32 %thread_number()
  %own = zext i32 %own32 to i64
  %job.at = getelementptr %OpenMP, ptr %openmp, $OpenMP.job
  %job = load ptr, ptr %job.at
  %part_count.at = getelementptr %Job, ptr %job, $Job.part_count
  %part_count = load i64, ptr %part_count.at
  %has.part = icmp slt i64 %own, %part_count
  br i1 %has.part, label %look, label %end
look:
  %parts.at = getelementptr %Job, ptr %job, $Job.parts
  %parts = load ptr, ptr %parts.at
  %part = getelementptr %Part, ptr %parts, i64 %own
  %claim.at = getelementptr %Part, ptr %part, $Part.next_chunk
  %claim = load atomic i64, ptr %claim.at monotonic, align 8
  %first.at = getelementptr %Part, ptr %part, $Part.first_chunk
  %first = load i64, ptr %first.at
  %unbegun = icmp eq i64 %claim, %first
  %helps = icmp ne i64 %own, 0
  %timely = and i1 %unbegun, %helps
  %one = zext i1 %timely to i64
  %timely.at = getelementptr %OpenMP, ptr %openmp, $OpenMP.timely
  %before = atomicrmw add ptr %timely.at, i64 %one monotonic
  call void @work(ptr %job, i64 %own)
  br label %end
end:
  ret void
}
