"""The built-in methods, in the order of pages; each is a file of one screen."""

from bench.methods.cap import Cap
from bench.methods.catlip import CatLip
from bench.methods.clip import Clip
from bench.methods.distillation import Distillation
from bench.methods.siglip import SigLip
from bench.methods.superclass import SuperClass
from bench.methods.superclip import SuperClip

METHODS = (Clip(), SigLip(), CatLip(), SuperClass(), SuperClip(), Cap(), Distillation())
