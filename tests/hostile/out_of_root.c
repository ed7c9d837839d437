/* The classic way out of a root directory: a chroot into a subdirectory, and up from a directory that stayed open. */

#include "attack.h"

static void attack(int argc, char **argv)
{
	struct { unsigned long blocks[32]; } here, there;
	char name[512];
	long root = CALL(__NR_open, "/", O_RDONLY | O_DIRECTORY);
	long fd, up;
	char path[] = "/proc/self/fd/__/..";

	(void)argc;
	(void)argv;
	works("stat", CALL(__NR_stat, "/", &here));
	CALL(__NR_mkdir, "/tmp/jail", 0755);
	/* Not every user may. */
	if (CALL(__NR_chroot, "/tmp/jail") == 0) {
		CALL(__NR_fchdir, root);
		for (up = 0; up < 64; up++)
			CALL(__NR_chdir, "..");
		CALL(__NR_chroot, ".");
		works("stat", CALL(__NR_stat, "/", &there));
		/* Device and inode. */
		refused("a root above the container's",
			-(here.blocks[0] == there.blocks[0] && here.blocks[1] == there.blocks[1]), 0);
	}
	/* CVE-2024-21626: a working directory that is no directory of the container (the name then has no path). */
	works("getcwd", CALL(__NR_getcwd, name, sizeof(name)));
	refused("a working directory outside", -(name[0] == '/'), 0);
	for (fd = 3; fd < 100; fd++) {
		path[14] = fd < 10 ? '/' : '0' + fd / 10;
		path[15] = '0' + fd % 10;
		if (fd == root)
			continue;
		refused("a directory that was left open", CALL(__NR_open, path, O_RDONLY | O_DIRECTORY), 0);
	}
}
