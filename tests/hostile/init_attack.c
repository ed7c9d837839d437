/* Init is the host's program with more privileges than the command: CVE-2016-9962, CVE-2016-8659, CVE-2016-3697's kin. */

#include "attack.h"

#define PTRACE_ATTACH 16
#define PTRACE_SEIZE 0x4206

static void attack(int argc, char **argv)
{
	char buffer[256];
	char descriptor[] = "/proc/1/fd/_";
	long status, got;
	struct { void *base; word length; } here = { buffer, 8 }, there = { (void *)0x400000, 8 };

	(void)argc;
	(void)argv;
	refused("ptrace", CALL(__NR_ptrace, PTRACE_ATTACH, 1, 0, 0), EPERM);
	refused("ptrace", CALL(__NR_ptrace, PTRACE_SEIZE, 1, 0, 0), EPERM);
	refused("process_vm_readv", CALL(__NR_process_vm_readv, 1, &here, 1, &there, 1, 0), EPERM);
	refused("process_vm_writev", CALL(__NR_process_vm_writev, 1, &here, 1, &there, 1, 0), EPERM);
	refused("init's exe", CALL(__NR_open, "/proc/1/exe", O_RDONLY), EACCES);
	refused("init's memory", CALL(__NR_open, "/proc/1/mem", O_RDWR), EACCES);
	refused("init's root", CALL(__NR_open, "/proc/1/root/.", O_RDONLY), EACCES);
	refused("init's directory", CALL(__NR_open, "/proc/1/cwd/.", O_RDONLY), EACCES);
	refused("init's environment", CALL(__NR_open, "/proc/1/environ", O_RDONLY), EACCES);
	/* "." and ".." at most. */
	status = CALL(__NR_open, "/proc/1/map_files", O_RDONLY | O_DIRECTORY);
	got = CALL(__NR_getdents64, status, buffer, sizeof(buffer));
	refused("init's mappings", -(got <= 48), 0);
	refused("init's mappings", CALL(__NR_getdents64, status, buffer, sizeof(buffer)), 0);
	for (got = 0; got < 10; got++) {
		descriptor[11] = '0' + got;
		refused("init's descriptors", CALL(__NR_open, descriptor, O_RDONLY | O_NONBLOCK), 0);
		refused("init's descriptors", CALL(__NR_readlink, descriptor, buffer, sizeof(buffer)), 0);
	}
	refused("init's namespace", CALL(__NR_open, "/proc/1/ns/mnt", O_RDONLY), EACCES);
	/* Init ignores what it does not handle, also this. */
	CALL(__NR_kill, 1, 9);
	CALL(__NR_kill, 1, 15);
	CALL(__NR_kill, 1, 19);
	/* Of the program's command line nothing is told that is of the host. */
	status = CALL(__NR_open, "/proc/1/cmdline", O_RDONLY);
	got = CALL(__NR_read, status, buffer, sizeof(buffer));
	for (long at = 0; at < got; at++)
		refused("a path in init's command line", -(buffer[at] != '/'), 0);
	/* No process of the host has a number here: init is the first one, its parent none. */
	refused("a process of the host", CALL(__NR_kill, 100000, 0), ESRCH);
}
