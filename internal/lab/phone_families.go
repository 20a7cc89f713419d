package lab

// SamsungEmail is Samsung's mail app on a Galaxy.
func SamsungEmail(name, deviceID string) PhoneConfig {
	return PhoneConfig{
		Name: name, DeviceID: orRandom(deviceID, "SEC", upperHex, 16), DeviceType: "SAMSUNGSMS921B",
		UserAgent: "SAMSUNG-SM-S921B/101.60201", Model: "SM-S921B", OS: "Android 16",
	}
}

// Nine is the mail app Nine on an Android phone. Its DeviceId begins with the word.
func Nine(name, deviceID string) PhoneConfig {
	return PhoneConfig{
		Name: name, DeviceID: orRandom(deviceID, "nine", lowerHex, 24), DeviceType: "Android",
		UserAgent: "Nine-Work/4.9.3", Model: "Pixel 9", OS: "Android 16",
	}
}

// EmailPlus is Ivanti's Email+ on an iPhone: its DeviceId is the device's UUID at the MDM, without dashes.
func EmailPlus(name, deviceID string) PhoneConfig {
	return PhoneConfig{
		Name: name, DeviceID: orRandom(deviceID, "", lowerHex, 32), DeviceType: "iPhone",
		UserAgent: "Email+/4.9.0", Model: "iPhone15,4", OS: "iOS 26.1",
	}
}

// UnknownClient is a mail app that no table knows.
func UnknownClient(name, deviceID string) PhoneConfig {
	return PhoneConfig{
		Name: name, DeviceID: orRandom(deviceID, "", digits, 15), DeviceType: "Gadget",
		UserAgent: "Mailer-of-Tomorrow/0.1", Model: "Gadget 1", OS: "GadgetOS 1",
	}
}
