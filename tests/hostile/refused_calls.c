/* Each call that Docker's documentation names as refused by its default profile, with what else leads out: as a 64-bit
 * program, as a 32-bit one, and as one with the other ABIs' numbers. */

#include "attack.h"

#define CLONE_NEWNS 0x00020000
#define CLONE_NEWCGROUP 0x02000000
#define CLONE_NEWUTS 0x04000000
#define CLONE_NEWIPC 0x08000000
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWPID 0x20000000
#define CLONE_NEWNET 0x40000000
#define SIGCHLD 17
#define AF_VSOCK 40
#define AF_ALG 38
#define AF_INET 2
#define SOCKETCALL_OF_I386 102
#define SYS_SOCKET 1
#define ADDR_NO_RANDOMIZE 0x0040000

#define REFUSED(name, ...) refused(#name, CALL(__NR_##name, ##__VA_ARGS__), EPERM)

/* socket(2) by i386's socketcall, which has the address family in memory below 4 GiB: a filter does not see it. */
static void socketcall(const char *name, unsigned int family, unsigned int type)
{
	static unsigned int words[3];
	long result;

	words[0] = family;
	words[1] = type;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(SOCKETCALL_OF_I386), "b"(SYS_SOCKET), "c"(words) : "memory");
	refused(name, (int)result, ENOSYS);
}

static void only_here(void)
{
	socketcall("socketcall with AF_ALG", AF_ALG, 5);
	socketcall("socketcall with AF_VSOCK", AF_VSOCK, 1);
#ifdef __x86_64__
	long result;

	/* i386's umount2, by its gate: the filter for the other ABI decides. */
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(52), "b"(0), "c"(0) : "memory");
	refused("umount2 of i386", result, EPERM);
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(310), "b"(CLONE_NEWUSER) : "memory");
	refused("unshare of i386", result, EPERM);
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(359), "b"(AF_VSOCK), "c"(1), "d"(0) : "memory");
	refused("socket of i386", result, EPERM);
	/* x32's numbers: refused by the filter, or by a kernel that does not have them. */
	refused("mount of x32", CALL(0x40000000 + __NR_mount, 0, 0, 0, 0, 0), 0);
	refused("unshare of x32", CALL(0x40000000 + __NR_unshare, CLONE_NEWUSER), 0);
	REFUSED(create_module);
	REFUSED(get_kernel_syms);
	REFUSED(query_module);
	REFUSED(nfsservctl);
	REFUSED(kexec_file_load);
#else
	REFUSED(stime, 0);
	REFUSED(umount, 0);
	REFUSED(vm86);
	REFUSED(vm86old);
	REFUSED(clock_settime64);
#endif
}

static void attack(int argc, char **argv)
{
	static const word namespaces[] = { CLONE_NEWNS,	 CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
					   CLONE_NEWUSER, CLONE_NEWPID,	 CLONE_NEWNET };
	static long none[64];
	word at;

	(void)argc;
	(void)argv;
	REFUSED(acct, 0);
	REFUSED(add_key, 0, 0, 0, 0, 0);
	REFUSED(bpf, 0, 0, 0);
	REFUSED(clock_settime, 0, 0);
	REFUSED(delete_module, 0, 0);
	REFUSED(fanotify_init, 0, 0);
	REFUSED(finit_module, -1, 0, 0);
	REFUSED(fsconfig, -1, 0, 0, 0, 0);
	REFUSED(fsmount, -1, 0, 0);
	REFUSED(fsopen, 0, 0);
	REFUSED(fspick, -1, 0, 0);
	REFUSED(get_mempolicy, 0, 0, 0, 0, 0);
	REFUSED(init_module, 0, 0, 0);
	REFUSED(ioperm, 0, 1, 1);
	REFUSED(iopl, 0);
	REFUSED(io_uring_setup, 1, 0);
	REFUSED(io_uring_enter, -1, 0, 0, 0, 0);
	REFUSED(io_uring_register, -1, 0, 0, 0);
	REFUSED(kcmp, 1, 1, 0, 0, 0);
	REFUSED(kexec_load, 0, 0, 0, 0);
	REFUSED(keyctl, 0, 0, 0, 0, 0);
	REFUSED(lookup_dcookie, 0, 0, 0);
	REFUSED(mbind, 0, 0, 0, 0, 0);
	REFUSED(mount, 0, 0, 0, 0, 0);
	REFUSED(mount_setattr, -1, 0, 0, 0, 0);
	REFUSED(move_mount, -1, 0, -1, 0, 0);
	REFUSED(move_pages, 0, 0, 0, 0, 0);
	REFUSED(open_by_handle_at, -1, 0, 0);
	REFUSED(open_tree, -1, 0, 0);
	REFUSED(perf_event_open, 0, 0, 0, 0, 0);
	REFUSED(pidfd_getfd, -1, 0, 0);
	REFUSED(pivot_root, 0, 0);
	REFUSED(process_madvise, -1, 0, 0, 0, 0);
	REFUSED(quotactl, 0, 0, 0, 0);
	REFUSED(reboot, 0, 0, 0, 0);
	REFUSED(request_key, 0, 0, 0, 0);
	REFUSED(set_mempolicy, 0, 0, 0);
	REFUSED(setdomainname, 0, 0);
	REFUSED(sethostname, 0, 0);
	REFUSED(setns, -1, 0);
	REFUSED(settimeofday, 0, 0);
	REFUSED(swapoff, 0);
	REFUSED(swapon, 0, 0);
	REFUSED(sysfs, 3);
	REFUSED(syslog, 0, 0, 0);
	REFUSED(_sysctl, 0);
	REFUSED(umount2, 0, 0);
	REFUSED(uselib, 0);
	REFUSED(userfaultfd, 0);
	REFUSED(ustat, 0, 0);
	REFUSED(vhangup);
	only_here();

	/* These by their arguments only. The kernel itself decides about clock_adjtime. */
	none[0] = 1;
	refused("clock_adjtime", CALL(__NR_clock_adjtime, 0, none), 0);
	for (at = 0; at < sizeof(namespaces) / sizeof(*namespaces); at++) {
		REFUSED(unshare, namespaces[at]);
		REFUSED(clone, namespaces[at] | SIGCHLD, 0, 0, 0, 0);
	}
	refused("clone3", CALL(__NR_clone3, 0, 0), ENOSYS);
	refused("a call of the future", CALL(600), ENOSYS);
	REFUSED(socket, AF_VSOCK, 1, 0);
	REFUSED(socket, AF_ALG, 5, 0);
	REFUSED(personality, ADDR_NO_RANDOMIZE);

	works("gettid", CALL(__NR_gettid));
	works("socket", CALL(__NR_socket, AF_INET, 1, 0));
	works("personality", CALL(__NR_personality, 0xffffffff));
	works("personality", CALL(__NR_personality, 8));
	if (CALL(__NR_geteuid) == 0)
		works("chroot", CALL(__NR_chroot, "/"));
	works("munlockall", CALL(__NR_munlockall));
}
