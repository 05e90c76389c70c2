"""What the terms of datasets say of the models trained on them."""

TERMS = {
    "mnist": "MNIST is by LeCun, Cortes and Burges, from NIST's databases.",
    "digits": "The digits are Alpaydin and Kaynak's, of the UCI repository (CC BY 4.0).",
    "avatars": "The faces are a remix of Avataaars by Pablo Stanley, free for personal and commercial use.",
    "utkface": "UTKFace is for non-commercial research, and so are these weights. Its ages, genders and ethnicities are\n"
    "estimates, some of them by a model; they may be wrong for a person.",
}
