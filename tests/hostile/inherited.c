/* What the caller of the container had and its command must not: keys, descriptors, capabilities, a umask. */

#include "attack.h"

#define PR_CAPBSET_READ 23
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_IS_SET 1
#define KEYCTL_SEARCH 10
/* Docker's default capabilities (capabilities(7)). */
#define DEFAULT_CAPABILITIES 0xa80425fbUL

static void attack(int argc, char **argv)
{
	struct { unsigned version; int pid; } header = { 0x20080522, 0 };
	struct { unsigned effective, permitted, inheritable; } sets[2];
	word capability;
	int fd;

	(void)argc;
	(void)argv;
	refused("the caller's session keyring", CALL(__NR_keyctl, KEYCTL_SEARCH, -3, "user", "layerctl-secret", 0), 0);
	refused("the keys of /proc", CALL(__NR_read, CALL(__NR_open, "/proc/keys", O_RDONLY), &sets, 1) == 1 ? 0 : -1, 0);
	for (fd = 3; fd < 1024; fd++) {
		/* The one for /proc/keys. */
		if (fd > 3)
			refused("an inherited descriptor", CALL(__NR_fcntl, fd, F_GETFD), EBADF);
	}
	for (capability = 0; capability < 41; capability++) {
		refused("an ambient capability",
			-!CALL(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability), 0);
		if (!(DEFAULT_CAPABILITIES >> capability & 1))
			refused("a capability of the bounding set", -!CALL(__NR_prctl, PR_CAPBSET_READ, capability), 0);
	}
	works("capget", CALL(__NR_capget, &header, sets));
	refused("more than the default capabilities",
		-!((sets[0].permitted & ~DEFAULT_CAPABILITIES) || sets[1].permitted), 0);
	refused("inheritable capabilities", -!(sets[0].inheritable || sets[1].inheritable), 0);
	refused("a umask that is not 0022", -(CALL(__NR_umask, 0) == 022), 0);
}
